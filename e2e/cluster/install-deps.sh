#!/usr/bin/env bash
# Installs the Debian packages that the cluster tests need, and only those that are missing: when
# everything is there it asks nobody and returns at once.
set -euo pipefail

# program=package. A program may also be a path, for what is not meant to be called by hand.
needed=(
    containerd=containerd
    runc=runc
    /usr/lib/cni/bridge=containernetworking-plugins
    iptables=iptables
    nft=nftables
    conntrack=conntrack
    ipset=ipset
    ethtool=ethtool
    socat=socat
    buildah=buildah
    busybox=busybox-static
    ip=iproute2
    nsenter=util-linux
    setsid=util-linux
    mount=mount
    openssl=openssl
    curl=curl
    jq=jq
    gcc=gcc
    pgrep=procps
    chromium=chromium
)

# Debian keeps some of these where only root looks.
PATH=$PATH:/usr/sbin:/sbin:/usr/local/go/bin
missing=()
for entry in "${needed[@]}"; do
    command -v "${entry%%=*}" >/dev/null 2>&1 || missing+=("${entry#*=}")
done
# Debian's Go is too old for the control plane; build.sh fetches one as a Python package.
if ! command -v go >/dev/null 2>&1 && ! python3 -c 'import ensurepip' 2>/dev/null; then
    missing+=(python3-venv)
fi
[ "${#missing[@]}" -gt 0 ] || exit 0

if ! command -v apt-get >/dev/null 2>&1; then
    echo "install-deps: please install: ${missing[*]}" >&2
    exit 1
fi
if [ "$(id -u)" -ne 0 ]; then
    echo "install-deps: run it as root; missing: ${missing[*]}" >&2
    exit 1
fi
echo "install-deps: installing ${missing[*]}"
install=(apt-get install -y --no-install-recommends "${missing[@]}")
# The lists may be fresh enough; fetch them only when the first try fails.
if ! DEBIAN_FRONTEND=noninteractive "${install[@]}" >/dev/null 2>&1; then
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive "${install[@]}"
fi
