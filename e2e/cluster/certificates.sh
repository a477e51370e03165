#!/usr/bin/env bash
# Makes the cluster's certificates and kubeconfig files, into lib/kubernetes of the state folder
# (/var/lib/kubernetes in the node), and the administrator's kubeconfig.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/settings.sh"

mkdir -p "$state/lib/kubernetes"
cd "$state/lib/kubernetes"
umask 077

key() {
    openssl ecparam -name prime256v1 -genkey -noout -out "$1.key"
}

# certificate FILE SUBJECT [SAN]: signed by the CA, for both ends of a connection.
certificate() {
    key "$1"
    openssl req -new -key "$1.key" -subj "$2" -out "$1.csr"
    {
        echo "extendedKeyUsage=clientAuth,serverAuth"
        echo "keyUsage=digitalSignature"
        echo "subjectAltName=${3:-DNS:unused}"
    } >"$1.ext"
    openssl x509 -req -in "$1.csr" -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 \
        -extfile "$1.ext" -out "$1.crt" 2>/dev/null
    rm "$1.csr" "$1.ext"
}

# kubeconfig FILE CERTIFICATE: everything in the file itself, to be of use outside the node too.
kubeconfig() {
    cat >"$1" <<END
apiVersion: v1
kind: Config
clusters:
- name: $name
  cluster:
    server: https://10.99.0.1:6443
    certificate-authority-data: $(base64 -w 0 ca.crt)
users:
- name: $2
  user:
    client-certificate-data: $(base64 -w 0 "$2.crt")
    client-key-data: $(base64 -w 0 "$2.key")
contexts:
- name: $name
  context: {cluster: $name, user: $2}
current-context: $name
END
}

key ca
openssl req -x509 -new -key ca.key -subj "/CN=holdfast-e2e" -days 30 -out ca.crt
key service-accounts
openssl ec -in service-accounts.key -pubout -out service-accounts.pub 2>/dev/null

certificate apiserver "/CN=kube-apiserver" \
    "DNS:kubernetes,DNS:kubernetes.default,DNS:kubernetes.default.svc,IP:10.99.0.1,IP:127.0.0.1,IP:10.96.0.1"
certificate apiserver-to-kubelet "/O=system:masters/CN=apiserver-to-kubelet"
certificate admin "/O=system:masters/CN=admin"
certificate controller-manager "/CN=system:kube-controller-manager"
certificate scheduler "/CN=system:kube-scheduler"
certificate kube-proxy "/CN=system:kube-proxy"
certificate kubelet "/O=system:nodes/CN=system:node:$name" "DNS:$name,IP:10.99.0.1"

for user in controller-manager scheduler kube-proxy kubelet; do
    kubeconfig "$user.kubeconfig" "$user"
done
kubeconfig "$state/kubeconfig" admin
