#!/usr/bin/env bash
# Brings a cluster up, measures Holdfast on it, takes it down.
set -euo pipefail
cd "$(dirname "$0")/.."
export HOLDFAST_E2E_STATE=${HOLDFAST_E2E_STATE:-/var/tmp/holdfast-bench}
e2e/cluster/install-deps.sh
trap 'e2e/cluster/down.sh' EXIT
e2e/cluster/up.sh
e2e/cluster/enter.sh target/release/holdfast-bench cluster --markdown target/bench-cluster.md "$@"
