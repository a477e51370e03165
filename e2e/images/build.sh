#!/usr/bin/env bash
# Builds the image of a folder here and prints its archive's path. There is no registry in the tests:
# archives are imported into the node's containerd as they are. Kept in the cache until the folder
# changes.
#
#   build.sh NAME      gives localhost/NAME:1
set -euo pipefail
image=$1
here=$(cd "$(dirname "$0")/$image" && pwd)
cache=${HOLDFAST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/holdfast}
key=$(cd "$here" && find . -type f -print0 | sort -z | xargs -0 cat | sha256sum | cut -c1-16)
archive=$cache/image-$image-$key.tar

if [ ! -e "$archive" ]; then
    context=$(mktemp -d)
    trap 'rm -rf "$context" "$archive.$$"' EXIT
    "$here/prepare.sh" "$context" >&2
    mkdir -p "$cache"
    "$here/../archive.sh" "localhost/$image:1" "$archive.$$" -f "$here/Dockerfile" "$context" >&2
    mv "$archive.$$" "$archive"
fi
echo "$archive"
