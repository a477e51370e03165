# `make` alone lists what there is.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

# No run of the tests may hang for longer than this, building included.
TEST_TIME_LIMIT ?= 45m
# The first time builds a Kubernetes control plane, ten to twenty minutes.
E2E_TIME_LIMIT ?= 90m

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.PHONY: run
run: ## Build and run the demo: proxy on 8080 and 8443, admin on 9090
	cargo run --release -- demo

.PHONY: test
test: test-deps ## Install what the tests need, then run all tests
	timeout --verbose --foreground --kill-after=10s $(TEST_TIME_LIMIT) cargo test --workspace

.PHONY: test-deps
test-deps: ## Install what the tests need: Debian packages and Helm
	scripts/install-test-deps.sh

.PHONY: conformance
conformance: test-deps ## Run Autobahn's cases for WebSockets through the proxy
	scripts/conformance.sh

.PHONY: fuzz
fuzz: ## Run the fuzz targets: FUZZ_RUNS and FUZZ_SECONDS bound each
	scripts/fuzz.sh

.PHONY: fuzz-seeds
fuzz-seeds: ## Write fuzz/corpus, what the fuzz targets start from, anew
	HOLDFAST_GENERATE=1 cargo test --quiet --workspace --test fuzz --test tls_record seed

.PHONY: lint
lint: cargo-deny ## Check format, lints, licences and dependencies
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo deny --log-level error check bans licenses sources

.PHONY: cargo-deny
cargo-deny:
	@command -v cargo-deny >/dev/null || cargo install cargo-deny --locked

.PHONY: fmt
fmt: ## Format the code
	cargo fmt --all

.PHONY: bench
bench: ## Install nginx and HAProxy, then measure the proxy side by side with them
	bench/install-peers.sh
	cargo build --release -p holdfast -p holdfast-bench
	target/release/holdfast-bench compare --json target/bench.json --markdown target/bench.md

.PHONY: bench-cluster
bench-cluster: ## Measure on a Kubernetes cluster made for it: changes, memory, restarts; as root
	cargo build --release -p holdfast -p holdfast-bench
	bench/cluster.sh

.PHONY: soak
soak: ## Let 2,000 WebSockets come and go for four minutes; memory and open files must stay as they are
	cargo build --release -p holdfast -p holdfast-bench
	target/release/holdfast-bench soak

.PHONY: image
image: ## Build the container image with Docker or buildah
	scripts/image.sh

.PHONY: e2e
e2e: ## Run the tests on a Kubernetes cluster made for them, as root
	timeout --verbose --foreground --kill-after=2m $(E2E_TIME_LIMIT) e2e/run.sh

.PHONY: e2e-up
e2e-up: ## Bring the tests' cluster up and leave it up, as root
	e2e/cluster/install-deps.sh
	e2e/cluster/up.sh

.PHONY: e2e-down
e2e-down: ## Take the tests' cluster down, as root
	e2e/cluster/down.sh

.PHONY: crds
crds: ## Write crds/ anew from the types in src/api
	@mkdir -p crds
	cargo run --quiet -- crd > crds/loadbalancer.yaml.new
	mv crds/loadbalancer.yaml.new crds/loadbalancer.yaml

.PHONY: chart
chart: ## Write what is made from the chart and the types anew: schema, tables, CRDs, manifests/install.yaml
	HOLDFAST_GENERATE=1 cargo test --quiet --test chart generated

.PHONY: check-generated
check-generated: ## Fail if crds/, or what `make chart` writes, is not what its sources give
	cargo run --quiet -- crd | diff -u crds/loadbalancer.yaml -
	cargo test --quiet --test chart generated
