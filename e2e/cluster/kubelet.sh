#!/usr/bin/env bash
# Halts the kubelet of a running test cluster, and lets it go on. Meanwhile the node is as one that the
# cluster has lost: pods run on, but none is started again, probed or reported.
#
#   kubelet.sh freeze | thaw
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/settings.sh"

case "${1:-}" in
freeze) signal=STOP ;;
thaw) signal=CONT ;;
*)
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
# shellcheck disable=SC2016
in_node sh -c 'kill "-$1" "$(cat /run/kubelet.pid)"' kubelet "$signal"
