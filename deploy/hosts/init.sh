#!/bin/sh
# PID 1 of a lab host: mounts what a booted host has, then only reaps. Arguments: host name, and a
# directory of its own. The daemon is started beside it, so that killing PID 1 ends the whole host.
set -eu
mount --make-rprivate /
mount -t proc proc /proc
mkdir -p "$2/cgroup"
mount --rbind /sys/fs/cgroup "$2/cgroup"
mount -t sysfs sysfs /sys
mount --rbind "$2/cgroup" /sys/fs/cgroup
umount -R "$2/cgroup"
hostname "$1"
ip link set lo up
: >"$2/booted"
while :; do
  sleep 2147483647 &
  wait $! || :
done
