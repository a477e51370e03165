#!/usr/bin/env bash
# Makes the file system of the image: a static `holdfast` and the CA roots. Called in the build stage
# of the Dockerfile, and on the host where images are built without a registry.
#
#   image-root.sh FOLDER
set -euo pipefail
mkdir -p "$1"
root=$(cd "$1" && pwd)
cd "$(dirname "$0")/.."

# Naming the target keeps the flag away from build scripts and macros, which cannot be static. A
# target folder of its own, because the flag would have every other build start anew.
target=$(rustc -vV | sed -n 's/^host: //p')
CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-target/image}
export CARGO_TARGET_DIR
RUSTFLAGS="-C target-feature=+crt-static" CARGO_PROFILE_RELEASE_STRIP=debuginfo \
    cargo build --release --locked --target "$target" --package holdfast --bin holdfast
install -m 755 "$CARGO_TARGET_DIR/$target/release/holdfast" "$root/holdfast"

roots=/etc/ssl/certs/ca-certificates.crt
if [ ! -e "$roots" ]; then
    echo "image-root: $roots is missing; install the package ca-certificates" >&2
    exit 1
fi
install -D -m 644 "$roots" "$root$roots"
