#!/usr/bin/env bash
# Ends the first container of a pod at once, as a crash of its program would; the kubelet starts it
# again. What is killed gets no chance to say goodbye.
#
#   kill.sh NAMESPACE POD
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/settings.sh"

container=$("$here/enter.sh" kubectl --namespace "$1" get pod "$2" \
    -o jsonpath='{.status.containerStatuses[0].containerID}')
in_node ctr --namespace k8s.io task kill --signal KILL "${container#containerd://}"
