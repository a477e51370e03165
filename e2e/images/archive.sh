#!/usr/bin/env bash
# Builds an image with buildah and writes it to an archive, as `docker load` and containerd read it.
# The image stays in no store.
#
#   archive.sh IMAGE ARCHIVE ARGUMENT...      the arguments are those of `buildah build`
set -euo pipefail
image=$1 archive=$2
shift 2

# A store of its own: what is built here is found in the archive, and the machine's store is not ours.
store=$(mktemp -d)
trap 'rm -rf "$store"' EXIT
buildah=(buildah --root "$store/root" --runroot "$store/run" --storage-driver vfs)

# chroot: no namespaces are needed to copy a few files, so it works inside a container too.
"${buildah[@]}" build --quiet --isolation chroot --tag "$image" "$@"
rm -f "$archive"
"${buildah[@]}" push --quiet "$image" "docker-archive:$archive:$image"
