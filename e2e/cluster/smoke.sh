#!/usr/bin/env bash
# Tries the test cluster itself, without Holdfast: pods, probes, Services, addresses from the cloud,
# logs, exec, a rolling update, the API server's absence. Ends with the first thing that does not work.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/settings.sh"

kubectl() {
    "$here/enter.sh" kubectl --namespace smoke "$@"
}
page() {
    "$here/enter.sh" curl --silent --show-error --fail --max-time 5 "http://$1/"
}
step() {
    echo "$(date +%T) $*"
}
# until_equal SECONDS EXPECTED CMD...
until_equal() {
    local end=$((SECONDS + $1)) expected=$2 got
    shift 2
    until got=$("$@" 2>/dev/null) && [ "$got" = "$expected" ]; do
        [ "$SECONDS" -lt "$end" ] || die "wanted '$expected' of: $*; got '$got'"
        sleep 0.2
    done
}

rollout=
trap '[ -z "$rollout" ] || kill "$rollout" 2>/dev/null
    kubectl delete --ignore-not-found --wait --timeout=60s -f "$here/smoke.yaml" >/dev/null 2>&1' EXIT
"$here/import.sh" "$("$here/../images/build.sh" busybox)"

step "a Deployment and its Service"
kubectl apply -f "$here/smoke.yaml" >/dev/null
kubectl rollout status deployment/web --timeout=60s >/dev/null
cluster=$(kubectl get service web -o jsonpath='{.spec.clusterIP}')
until_equal 10 "10.98.${cluster#10.96.}" \
    kubectl get service web -o jsonpath='{.status.loadBalancer.ingress[0].ip}'
balancer=10.98.${cluster#10.96.}

step "reached through the cluster's address and the balancer's"
until_equal 10 first page "$cluster"
until_equal 10 first page "$balancer"

step "exec and logs"
until_equal 10 first kubectl exec deployment/web -- cat /tmp/www/index.html
until_equal 10 "serving first" kubectl logs deployment/web

step "a rolling update under requests"
kubectl set env deployment/web PAGE=second >/dev/null
"$here/enter.sh" kubectl --namespace smoke rollout status deployment/web --timeout=60s >/dev/null &
rollout=$!
requests=0
while kill -0 "$rollout" 2>/dev/null; do
    page "$balancer" >/dev/null || die "request $requests of the rolling update failed"
    requests=$((requests + 1))
done
wait "$rollout"
step "  $requests requests, none failed"
until_equal 10 second page "$balancer"

step "the API server stopped: pods go on, kubectl does not"
"$here/apiserver.sh" stop
! kubectl get pods >/dev/null 2>&1 || die "the API server still answers"
[ "$(page "$balancer")" = second ] || die "the pods' page is not served"
"$here/apiserver.sh" start
kubectl rollout status deployment/web --timeout=60s >/dev/null

step "the API server frozen: connections stay, nothing is said on them"
"$here/apiserver.sh" freeze
! kubectl get pods --request-timeout=2s >/dev/null 2>&1 || die "the API server still answers"
"$here/apiserver.sh" thaw
until_equal 10 second kubectl get deployment web \
    -o jsonpath='{.spec.template.spec.containers[0].env[0].value}'

step "an address goes back when the Service is no LoadBalancer any more"
kubectl patch service web --type merge --patch '{"spec":{"type":"ClusterIP"}}' >/dev/null
until_equal 10 "{}" kubectl get service web -o jsonpath='{.status.loadBalancer}'
step "all well"
