#!/bin/sh
# prepare.sh FOLDER: what the Dockerfile copies.
set -eu
mkdir -p "$1/bin" "$1/tmp"
chmod 1777 "$1/tmp"
cp "$(command -v busybox)" "$1/bin/busybox"
for tool in $(busybox --list); do
    [ "$tool" = busybox ] || ln -s busybox "$1/bin/$tool"
done
