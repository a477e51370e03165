#!/usr/bin/env bash
# Stops and starts the API server of a running test cluster; etcd, pods and everything else go on.
#
#   apiserver.sh stop               ends it: connections are closed, new ones refused
#   apiserver.sh kill               the same as a crash: it does not take its address out of the Service
#                                   `kubernetes`, where pods find it, so they have it back at once
#   apiserver.sh start [FLAG...]    starts it, with more flags, and returns when it is ready
#   apiserver.sh freeze | thaw      halts it: connections stay open and nothing is said on them
#   apiserver.sh cut                resets all its connections, and with them every watch
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/settings.sh"

signal() {
    in_node sh -c "kill -$1 \$(cat /run/kube-apiserver.pid)"
}
alive() {
    # A process that was killed and not yet reaped has no command line.
    # shellcheck disable=SC2016
    in_node sh -c 'grep -q kube-apiserver "/proc/$(cat /run/kube-apiserver.pid)/cmdline"' 2>/dev/null
}

case "${1:-}" in
stop)
    alive || exit 0
    signal TERM
    # It waits for long requests to end; tests need not.
    for _ in $(seq 10); do
        alive || exit 0
        sleep 0.2
    done
    signal KILL
    wait_for 10 "the API server has ended" kube-apiserver eval '! alive'
    ;;
kill)
    signal KILL
    wait_for 10 "the API server has ended" kube-apiserver eval '! alive'
    ;;
start)
    shift
    alive || "$here/start.sh" kube-apiserver "$@"
    wait_for 60 "the API server is ready" kube-apiserver "$here/enter.sh" kubectl get --raw=/readyz
    ;;
freeze) signal STOP ;;
thaw) signal CONT ;;
cut) in_network ss --kill --no-header --tcp --numeric 'sport = :6443' >/dev/null ;;
*)
    sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
