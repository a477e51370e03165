#!/usr/bin/env bash
# Builds the image localhost/holdfast:VERSION with Docker, or with buildah where no Docker answers; then the
# program is built on the host, so no registry is needed.
#
#   image.sh                 the image goes to Docker's or buildah's store
#   image.sh --archive FILE  with buildah, to an archive as `docker load` and containerd read it
#
#   IMAGE    another name, tag included
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml | head -n 1)
image=${IMAGE:-localhost/holdfast:$version}
arguments=(
    --build-arg "VERSION=$version"
    --build-arg "REVISION=$(git rev-parse HEAD 2>/dev/null || echo unknown)"
    --file Dockerfile
)

if [ $# -eq 0 ] && docker version >/dev/null 2>&1; then
    docker build "${arguments[@]}" --tag "$image" .
    docker image inspect --format "$image: {{.Size}} bytes" "$image"
    exit 0
fi

command -v buildah >/dev/null || {
    echo "image: neither a running Docker nor buildah is here; install one" >&2
    exit 1
}
stage=target/image/stage
rm -rf "$stage"
scripts/image-root.sh "$stage/image"
# A context with the name of a stage takes its place, and nothing else of the checkout is wanted.
arguments+=(--build-context "build=$stage" "$stage")
if [ "${1:-}" = --archive ]; then
    e2e/images/archive.sh "$image" "$2" "${arguments[@]}"
    echo "$image: $(stat --format %s "$2") bytes in $2"
else
    buildah build --quiet --isolation chroot --tag "$image" "${arguments[@]}"
    buildah images --format '{{.Name}}:{{.Tag}}: {{.Size}}' "$image"
fi
