#!/bin/sh
# Nothing that the tests write has to outlive the machine, so etcd need not wait for the disk.
exec etcd \
    --name node \
    --data-dir /var/lib/etcd \
    --unsafe-no-fsync \
    --listen-client-urls http://127.0.0.1:2379 \
    --advertise-client-urls http://127.0.0.1:2379 \
    --listen-peer-urls http://127.0.0.1:2380 \
    --quota-backend-bytes 4294967296 \
    --log-level warn \
    "$@"
