#!/usr/bin/env bash
# What a cloud does for Services of type LoadBalancer: an address for each, written to its status.
# The address is that of the cluster network with another second number (10.96.3.7 gets 10.98.3.7).
# So it is unique, survives a restart of this program, and is free again when the Service is gone.
# As a cloud does, it leaves Services with a loadBalancerClass to others.
set -euo pipefail
cd /var/lib/kubernetes
api=https://10.99.0.1:6443/api/v1

request() {
    curl --silent --show-error --fail --cacert ca.crt --cert admin.crt --key admin.key "$@"
}

# One line for each Service whose status is not as it should be: NAMESPACE NAME STATUS. A watch
# without a resource version begins with everything there is.
wrong() {
    jq --unbuffered --raw-output '
        select(.type == "ADDED" or .type == "MODIFIED") | .object
        | select(.metadata.deletionTimestamp == null)
        | (.spec.type == "LoadBalancer" and .spec.loadBalancerClass == null) as $ours
        | (.status.loadBalancer.ingress != null) as $has
        | select($ours != $has and .spec.loadBalancerClass == null)
        | (if $ours
           then [{ip: (.spec.loadBalancerIP // (.spec.clusterIP | sub("^10[.]96[.]"; "10.98.")))}]
           else null end) as $ingress
        | [.metadata.namespace, .metadata.name,
           ({status: {loadBalancer: {ingress: $ingress}}} | tojson)]
        | join(" ")'
}

while :; do
    # A short watch, so that what could not be written is tried again, and a silent one noticed.
    request --no-buffer --max-time 70 "$api/services?watch=true&timeoutSeconds=60" | wrong |
        while read -r namespace name status; do
            echo "$namespace/$name: $status"
            request --output /dev/null --request PATCH --data "$status" \
                --header "Content-Type: application/merge-patch+json" \
                "$api/namespaces/$namespace/services/$name/status" ||
                # It may be gone by now; if not, the next watch begins with it.
                echo "$namespace/$name: not written" >&2
        done || true
    sleep 1
done
