#!/usr/bin/env bash
# Brings the test cluster up and returns when pods can be made: one node with etcd, API server,
# controller manager, scheduler, containerd, kubelet, kube-proxy and a cloud that hands out addresses.
# A cluster that is up and well stays as it is; what is left of a broken one is cleared away first.
#
#   HOLDFAST_E2E_STATE              where it keeps everything (default /var/tmp/holdfast-e2e)
#   HOLDFAST_E2E_APISERVER_FLAGS    more flags for the API server, separated by spaces
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/settings.sh"

# Every program lives, the API server is ready, and so is the node.
well() {
    node_pid >/dev/null || return 1
    for file in "$state"/run/*.pid; do
        in_node kill -0 "$(cat "$file")" 2>/dev/null || return 1
    done
    in_network "$kubectl" get --raw=/readyz --request-timeout=5s >/dev/null 2>&1 || return 1
    in_network "$kubectl" wait --for=condition=Ready "node/$name" --timeout=5s >/dev/null 2>&1
}

started=$(date +%s)
bin=$("$here/build.sh" | paste -sd:)
kubectl=${bin%%:*}/kubectl
for place in "$state" "$here" "$bin"; do
    case "$place/" in
    /run/* | /var/run/* | /var/lib/* | /var/log/*)
        die "$place: /run, /var/lib and /var/log of the host are hidden in the node; use another folder"
        ;;
    esac
done
if well; then
    echo "the cluster is up already: $state"
    exit 0
fi
"$here/down.sh"

# Where they are modules. Without one of them the program that needs it says so.
modprobe -qa overlay br_netfilter veth bridge nf_tables 2>/dev/null || true
rm -rf "$state/log"
mkdir -p "$state/log"
echo "$bin" >"$state/bin"
# shellcheck disable=SC2016
setsid --fork sh -c '
    echo $$ >"$1/node.pid"
    exec unshare --mount --propagation private --net --uts --ipc --pid --mount-proc --fork --kill-child \
        "$2/node.sh" "$1"
' up "$state" "$here" </dev/null >>"$state/log/node.log" 2>&1
"$here/certificates.sh"
install -D -m 644 "$here/node/pods.conflist" "$state/lib/kubernetes/cni/pods.conflist"
wait_for 10 "the node's mounts and network" node test -e "$state/run/node-is-made"

"$here/start.sh" etcd
# The flags are to be split into words.
# shellcheck disable=SC2086
"$here/start.sh" kube-apiserver ${HOLDFAST_E2E_APISERVER_FLAGS:-}
"$here/start.sh" containerd
wait_for 20 "containerd answers" containerd in_node ctr version
"$here/import.sh" "$("$here/../images/build.sh" pause)"
wait_for 60 "the API server is ready" kube-apiserver in_network "$kubectl" get --raw=/readyz

for program in kube-controller-manager kube-scheduler kubelet kube-proxy cloud; do
    "$here/start.sh" "$program"
done
wait_for 60 "the node is Ready" kubelet \
    in_network "$kubectl" wait --for=condition=Ready "node/$name" --timeout=1s
# Pods are refused before it exists.
wait_for 30 "the default service account exists" kube-controller-manager \
    in_network "$kubectl" get serviceaccount default
echo "the cluster is up after $(($(date +%s) - started)) s: $state (commands: e2e/cluster/enter.sh kubectl …)"
