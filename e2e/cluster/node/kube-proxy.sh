#!/bin/sh
cd /var/lib/kubernetes || exit
# The tables of connections belong to the whole machine: their sizes stay as they are.
exec kube-proxy \
    --kubeconfig kube-proxy.kubeconfig \
    --proxy-mode nftables \
    --cluster-cidr 10.244.0.0/16 \
    --conntrack-max-per-core 0 \
    --conntrack-tcp-timeout-established 0 \
    --conntrack-tcp-timeout-close-wait 0 \
    "$@"
