#!/usr/bin/env bash
# All of the cluster tests on a fresh machine: what they need is installed and built, the cluster
# brought up, the tests run in its network. The cluster is taken down at the end, whatever the end is;
# the programs' logs stay in the state folder.
#
#   run.sh [ARGUMENT...]     arguments are those of the test program
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/.."

"$here/cluster/install-deps.sh"
# Everything is built before the cluster is up: downloads do not work in its network, and a compiler
# beside it would only slow both down.
"$here/cluster/build.sh" >/dev/null
mkdir -p target
scripts/image.sh --archive target/holdfast-image.tar
# With the features that the tests have been built with.
cargo build --workspace --bin holdfast-e2e

trap '"$here/cluster/down.sh"' EXIT
"$here/cluster/up.sh"
"$here/cluster/import.sh" target/holdfast-image.tar
# In the background, because a shell that waits for a program in the foreground hears no signals.
"$here/cluster/enter.sh" target/debug/holdfast-e2e "$@" &
tests=$!
trap 'kill "$tests"; exit 1' HUP INT TERM
wait "$tests"
