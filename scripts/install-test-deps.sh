#!/usr/bin/env bash
# Installs the Debian packages that building and testing need, and only those that are missing:
# when everything is there it asks nobody and returns at once.
set -euo pipefail

# command=package. gcc and make build aws-lc, openssl and GnuTLS are further opinions in TLS tests,
# chromium the one on WebSockets.
needed=(
    gcc=gcc
    make=make
    pkg-config=pkg-config
    openssl=openssl
    gnutls-cli=gnutls-bin
    chromium=chromium
    python3=python3
)

missing=()
for entry in "${needed[@]}"; do
    command -v "${entry%%=*}" >/dev/null 2>&1 || missing+=("${entry#*=}")
done

# For the conformance suite's runner. Debian's python3 makes no virtual environments by itself.
python3 -c 'import ensurepip' 2>/dev/null || missing+=(python3-venv)

if [ "${#missing[@]}" -gt 0 ]; then
    if ! command -v apt-get >/dev/null 2>&1; then
        echo "install-test-deps: please install: ${missing[*]}" >&2
        exit 1
    fi
    as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        if ! command -v sudo >/dev/null 2>&1; then
            echo "install-test-deps: no root and no sudo here; please install: ${missing[*]}" >&2
            exit 1
        fi
        as_root=(sudo)
    fi
    echo "install-test-deps: installing ${missing[*]}"
    install=(apt-get install -y --no-install-recommends "${missing[@]}")
    # The lists may be fresh enough; fetch them only when the first try fails.
    if ! "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive "${install[@]}" >/dev/null 2>&1; then
        "${as_root[@]}" apt-get update -qq
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive "${install[@]}"
    fi
fi

if ! command -v cargo >/dev/null 2>&1; then
    echo "install-test-deps: cargo is missing; install Rust 1.95 or later, see https://rustup.rs" >&2
    exit 1
fi

# Helm renders the chart in its tests. Built once, from its Go module.
"$(dirname "$0")/../e2e/cluster/build.sh" helm >/dev/null
