#!/bin/sh
cd /var/lib/kubernetes || exit
# Tests stop the API server for a minute. The one node must not count as lost meanwhile: its pods
# would be taken out of every Service, which is not what those tests are about.
exec kube-controller-manager \
    --kubeconfig controller-manager.kubeconfig \
    --leader-elect=false \
    --allocate-node-cidrs \
    --cluster-cidr 10.244.0.0/16 \
    --service-cluster-ip-range 10.96.0.0/16 \
    --use-service-account-credentials \
    --service-account-private-key-file service-accounts.key \
    --root-ca-file ca.crt \
    --cluster-signing-cert-file ca.crt \
    --cluster-signing-key-file ca.key \
    --node-monitor-grace-period 5m \
    "$@"
