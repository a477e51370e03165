#!/bin/sh
exec containerd --config "$(dirname "$0")/containerd.toml" "$@"
