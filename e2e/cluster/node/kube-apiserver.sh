#!/bin/sh
cd /var/lib/kubernetes || exit
# Without the address type `exec` and `logs` look up the node's name, and nobody here answers.
exec kube-apiserver \
    --etcd-servers http://127.0.0.1:2379 \
    --bind-address 0.0.0.0 \
    --advertise-address 10.99.0.1 \
    --secure-port 6443 \
    --service-cluster-ip-range 10.96.0.0/16 \
    --authorization-mode Node,RBAC \
    --enable-admission-plugins NodeRestriction \
    --allow-privileged=true \
    --client-ca-file ca.crt \
    --tls-cert-file apiserver.crt \
    --tls-private-key-file apiserver.key \
    --kubelet-client-certificate apiserver-to-kubelet.crt \
    --kubelet-client-key apiserver-to-kubelet.key \
    --kubelet-certificate-authority ca.crt \
    --kubelet-preferred-address-types InternalIP \
    --service-account-issuer https://kubernetes.default.svc \
    --service-account-key-file service-accounts.pub \
    --service-account-signing-key-file service-accounts.key \
    "$@"
