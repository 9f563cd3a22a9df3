#!/usr/bin/env bash
# Runs a command beside a Slurm of two nodes on this machine:  slurm.sh DIRECTORY COMMAND…
#
# Each node has a network, a name and processes of its own, so that what ends every Ray of a
# node, as `ray symmetric-run` does, ends no other. Needs root, and new namespaces to start in:
# unshare --net --mount --uts --pid --fork --mount-proc slurm.sh …
set -euo pipefail
directory=$1
shift
export PATH=$PATH:/usr/sbin:/sbin SLURM_CONF=$directory/slurm.conf
mkdir -p "$directory/state"
chmod 755 "$directory"

mkdir -p /run/netns
mount -t tmpfs none /run/netns
hostname controller
ip link set lo up
ip link add bridge type bridge
ip address add 10.77.0.1/24 dev bridge
ip link set bridge up

head --bytes=64 /dev/urandom > "$directory/munge.key"
chmod 400 "$directory/munge.key"
munged --force 2> /dev/null --key-file="$directory/munge.key" --socket="$directory/munge.socket" \
    --pid-file="$directory/munged.pid" --log-file="$directory/munged.log" \
    --seed-file="$directory/munged.seed"

cat > "$directory/slurm.conf" <<CONF
ClusterName=test
SlurmctldHost=controller(10.77.0.1)
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$directory/munge.socket
CredType=cred/munge
StateSaveLocation=$directory/state
SlurmdSpoolDir=$directory/%n
SlurmctldPidFile=$directory/slurmctld.pid
SlurmdPidFile=$directory/%n.pid
SlurmctldLogFile=$directory/slurmctld.log
SlurmdLogFile=$directory/%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/linear
SlurmdParameters=config_overrides
ReturnToService=2
MpiDefault=none
NodeName=node1 NodeAddr=10.77.0.11 CPUs=1 RealMemory=1000
NodeName=node2 NodeAddr=10.77.0.12 CPUs=1 RealMemory=1000
PartitionName=all Nodes=node1,node2 Default=YES MaxTime=INFINITE State=UP
CONF

echo "CgroupPlugin=cgroup/v1" > "$directory/cgroup.conf"

slurmctld -D > /dev/null 2>&1 &
for n in 1 2; do
    mkdir -p "$directory/node$n"
    ip netns add "node$n"
    ip link add "to$n" type veth peer name eth0 netns "node$n"
    ip link set "to$n" master bridge up
    ip -n "node$n" link set lo up
    ip -n "node$n" address add "10.77.0.1$n/24" dev eth0
    ip -n "node$n" link set eth0 up
    ip netns exec "node$n" unshare --uts --mount --pid --fork --mount-proc \
        sh -c "hostname node$n && exec slurmd -D" > /dev/null 2>&1 &
done

for _ in $(seq 150); do
    idle=$(sinfo --noheader --states=idle --format=%D 2> /dev/null || true)
    [[ ${idle// /} == 2 ]] && break
    sleep 0.2
done
# As this is the first process of its namespace, all others end with it.
"$@"
