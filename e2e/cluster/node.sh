#!/usr/bin/env bash
# Process 1 of the node, started by up.sh in namespaces of its own: makes the node's mounts and
# network, then stays and reaps. When it is killed the kernel ends every process of the node, pods
# included, and with the last of them mounts and network are gone.
#
#   node.sh STATE
set -euo pipefail
state=$1
name=$(basename "$state")

hostname "$name"

# The programs write to fixed places of the host; here those are folders of ours.
for folder in run lib log; do
    mkdir -p "$state/$folder"
done
mount --bind "$state/run" /run
mount --bind "$state/lib" /var/lib
mount --bind "$state/log" /var/log
# As systemd leaves it on a real node: mounts of the kubelet must reach the containers. The
# namespace is private, so the host sees none of them.
mount --make-rshared /

# The kubelet sets these knobs, and they are the whole machine's. It is shown files that have the
# wanted value already, and writes nothing.
mkdir -p /run/knobs
while read -r knob value; do
    echo "$value" >"/run/knobs/${knob##*/}"
    mount --bind "/run/knobs/${knob##*/}" "/proc/sys/$knob"
done <<'END'
vm/overcommit_memory 1
vm/panic_on_oom 0
kernel/panic 10
kernel/panic_on_oops 1
kernel/keys/root_maxkeys 1000000
kernel/keys/root_maxbytes 25000000
END

# Pods' control groups have a root of their own, which down.sh empties and removes. With version 1
# there is a hierarchy for each controller.
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mkdir -p "/sys/fs/cgroup/$name"
else
    for hierarchy in /sys/fs/cgroup/*/; do
        mkdir -p "$hierarchy$name"
    done
fi

# No uplink: addresses of pods and Services cannot leave the machine. The node's own address is on a
# bridge because a default route must lead somewhere for Service addresses to be routed at all.
ip link set lo up
ip link add node0 type bridge
ip address add 10.99.0.1/24 dev node0
ip link set node0 up
ip route add default via 10.99.0.1
echo 1 >/proc/sys/net/ipv4/ip_forward
echo 1 >/proc/sys/net/bridge/bridge-nf-call-iptables
# More sockets than the default range of ports holds are opened to one address by load tests.
echo "10000 65000" >/proc/sys/net/ipv4/ip_local_port_range

touch /run/node-is-made
# Bash reaps whatever is handed to process 1 while it waits.
sleep infinity &
wait
