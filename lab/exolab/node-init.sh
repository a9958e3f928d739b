#!/bin/sh
# The first process of a node, in namespaces of its own (process ids, mounts, network, host name): when it ends, by
# whatever way, the kernel ends every daemon, shim and pod of the cluster and drops their mounts.
# Usage: node-init.sh NODE_NAME STATE_FOLDER SUPERVISORD
set -eu
hostname "$1"
# As on a machine that has just booted: sockets, pod network namespaces and runtime state begin empty.
mount -t tmpfs -o mode=755 tmpfs /run
mkdir -p /run/cni /var/lib/cni
mount --bind /run/cni /var/lib/cni
rm -f "$2"/run/*
exec "$3" --nodaemon --configuration "$2/etc/supervisord.conf"
