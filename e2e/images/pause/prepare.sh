#!/bin/sh
# prepare.sh FOLDER: what the Dockerfile copies.
set -eu
cd "$(dirname "$0")"
gcc -Wall -Wextra -Werror -Os -static -s -o "$1/pause" pause.c
