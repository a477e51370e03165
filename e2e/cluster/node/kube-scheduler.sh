#!/bin/sh
cd /var/lib/kubernetes || exit
exec kube-scheduler \
    --kubeconfig scheduler.kubeconfig \
    --leader-elect=false \
    "$@"
