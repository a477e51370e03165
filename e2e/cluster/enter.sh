#!/usr/bin/env bash
# Runs a command in the cluster's network, with its kubectl and helm in the PATH and KUBECONFIG set.
# Files and processes are the host's.
#
#   enter.sh kubectl get pods -A
#   enter.sh                       a shell
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/settings.sh"

node_pid >/dev/null || die "no cluster in $state; bring it up with e2e/cluster/up.sh"
PATH=$(cat "$state/bin"):$PATH
export PATH
[ $# -gt 0 ] || set -- "${SHELL:-/bin/sh}"
# In its own process, so that signals reach the command itself.
exec nsenter --net="/proc/$(node_pid)/ns/net" "$@"
