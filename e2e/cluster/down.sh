#!/usr/bin/env bash
# Ends the test cluster and removes everything but its logs. Works whatever state the cluster is in.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
. "$here/settings.sh"

if pid=$(node_pid); then
    # Process 1 takes all the node's processes with it, and `unshare` ends when the last is gone. Where
    # process 1 is not there (yet), ending `unshare` is enough.
    kill -KILL "$(pgrep --parent "$pid" || echo "$pid")" 2>/dev/null || true
    for _ in $(seq 100); do
        [ -d "/proc/$pid" ] || break
        sleep 0.1
    done
    [ ! -d "/proc/$pid" ] || die "process $pid of the node does not end"
fi
rm -f "$state/node.pid"

# The pods' control groups. They are empty now, innermost first.
for groups in "/sys/fs/cgroup/$name" /sys/fs/cgroup/*/"$name"; do
    [ ! -d "$groups" ] || find "$groups" -depth -type d -exec rmdir {} +
done

# Mounts went with the node. One that is here nevertheless, after a change of these scripts say, must
# not be emptied.
if grep -qF " $state/" /proc/self/mounts; then
    die "something is mounted below $state; unmount it first: $(grep -F " $state/" /proc/self/mounts)"
fi
rm -rf "${state:?}/lib" "$state/run" "${state:?}/bin" "$state/kubeconfig"
rmdir "$state" 2>/dev/null || true
