# shellcheck shell=sh
# Sourced by the scripts of this folder: where the test cluster keeps its things, and how to reach
# the node. The node is a set of namespaces of the kernel (mounts, network, processes, host name)
# and all that runs in them. In there the programs find the paths that they know from a real node:
# /run, /var/lib and /var/log are folders of the state folder.

state=${HOLDFAST_E2E_STATE:-/var/tmp/holdfast-e2e}
# The node and the pods' control groups bear this name, so clusters with state folders of different
# names can live side by side.
name=$(basename "$state")
export KUBECONFIG="$state/kubeconfig"

die() {
    echo "${0##*/}: $*" >&2
    exit 1
}

# Folders in there and control groups of that name are removed in the end. A slip like /usr must not
# do harm.
case $state in
/*/*) ;;
*) die "HOLDFAST_E2E_STATE=$state: must be an absolute path, and not at the root" ;;
esac
case $name in
*[!a-z0-9-]*) die "HOLDFAST_E2E_STATE=$state: its last part names the node: only a-z, 0-9 and -" ;;
holdfast* | hf-*) ;;
*) die "HOLDFAST_E2E_STATE=$state: its last part must begin with holdfast or hf-" ;;
esac

[ "$(id -u)" -eq 0 ] || die "run it as root: the test cluster makes namespaces and mounts"

# The process that holds the namespaces: `unshare`, parent of the node's process 1. Its file is
# written before the namespaces exist, so there is no moment at which a crash would leave a node
# that nobody knows of. The name is compared because numbers are used again, after a reboot say.
node_pid() {
    pid=$(cat "$state/node.pid" 2>/dev/null) || return 1
    tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF "node.sh $state " || return 1
    echo "$pid"
}

# in_network CMD...: runs CMD with the node's network and the host's files.
in_network() {
    pid=$(node_pid) || die "no cluster in $state; bring it up with e2e/cluster/up.sh"
    nsenter --net="/proc/$pid/ns/net" "$@"
}

# in_node CMD...: runs CMD as a process of the node.
in_node() {
    pid=$(node_pid) || die "no cluster in $state; bring it up with e2e/cluster/up.sh"
    nsenter --net="/proc/$pid/ns/net" --mount="/proc/$pid/ns/mnt" --uts="/proc/$pid/ns/uts" \
        --pid="/proc/$pid/ns/pid_for_children" "$@"
}

# wait_for SECONDS WHAT PROGRAM CMD...: until CMD succeeds. Where it does not in time, the end of
# PROGRAM's log says more.
wait_for() {
    limit=$1 what=$2 program=$3
    shift 3
    end=$(($(date +%s) + limit))
    until "$@" >/dev/null 2>&1; do
        if [ "$(date +%s)" -ge "$end" ]; then
            echo "not after $limit s: $what; the end of $state/log/$program.log:" >&2
            tail -n 25 "$state/log/$program.log" >&2 || true
            exit 1
        fi
        sleep 0.2
    done
}
