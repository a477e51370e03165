#!/bin/sh
here=$(cd "$(dirname "$0")" && pwd)
name=$(hostname)
exec kubelet \
    --config "$here/kubelet.yaml" \
    --kubeconfig /var/lib/kubernetes/kubelet.kubeconfig \
    --hostname-override "$name" \
    --node-ip 10.99.0.1 \
    --cgroup-root "/$name" \
    "$@"
