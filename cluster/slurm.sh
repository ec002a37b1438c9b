#!/bin/bash
# A search on Slurm: a Ray cluster for this job alone, and the search on it.
#
#   sbatch cluster/slurm.sh SPACE [options of imbtune search, but --address, --storage and --name]
#
# The study is $IMBTUNE_STORAGE/JOBNAME-JOBID, by default in ~/imbtune-studies: a folder that all nodes
# see, or a bucket. A job that is requeued (preempted, out of time, `scontrol requeue`, a node that
# failed) has the same ID, so it resumes its study by itself. How to use it: docs/cluster.md.
# Fill in: partition, nodes, CPUs, GPUs and time, here or as options of sbatch.
#SBATCH --job-name=imbtune
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=12:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --signal=B:USR1@120
set -euo pipefail

storage="${IMBTUNE_STORAGE:-$HOME/imbtune-studies}"
name="$SLURM_JOB_NAME-$SLURM_JOB_ID"
head="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)"
head_ip="$(getent ahostsv4 "$head" | awk 'NR == 1 {print $1}')"
# Ports of this job's own, since two jobs may share a node; Ray chooses the other ports itself.
port=$((20000 + SLURM_JOB_ID % 10000 * 2))
export RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 GOMP_SPINCOUNT=1000
RAY_AUTH_TOKEN="$(python -c 'import secrets; print(secrets.token_hex(32))')"
export RAY_AUTH_TOKEN # srun passes it on; other users can read neither it nor the environment
# In the folder are the sockets and logs of Ray, which opens its part of it to all: nobody else may enter.
rm -rf "/tmp/ray-$SLURM_JOB_ID-"* # of this job before it was requeued, if Slurm killed it before it had ended
ray_folder="$(mktemp -d "/tmp/ray-$SLURM_JOB_ID-XXXXXX")" # short, since a socket's path has at most 107 bytes
trap 'trap "" TERM; rm -rf "$ray_folder"' EXIT # whole, though a requeue sends SIGTERM to rm, too
mkdir "$ray_folder/r"
common=(--block --num-cpus="$SLURM_CPUS_PER_TASK" --disable-usage-stats
  --dashboard-agent-listen-port=0 --min-worker-port=0 --max-worker-port=0)
step=(srun --ntasks-per-node=1 --cpus-per-task="$SLURM_CPUS_PER_TASK" --kill-on-bad-exit=0
  --output="imbtune-ray-%j.log" --open-mode=append) # beside the log of the search

"${step[@]}" --nodes=1 --ntasks=1 --nodelist="$head" \
  ray start --head --node-ip-address="$head_ip" --port="$port" --ray-client-server-port=$((port + 1)) \
  --include-dashboard=false --temp-dir="$ray_folder/r" "${common[@]}" &
for _ in $(seq 60); do # a minute or two; then the search says what is wrong
  ray status --address="$head_ip:$port" >/dev/null 2>&1 && break
  sleep 1
done
others=$((SLURM_JOB_NUM_NODES - 1))
if ((others)); then
  "${step[@]}" --nodes="$others" --ntasks="$others" --exclude="$head" \
    bash -c 'mkdir -p -m 700 "$0" && exec ray start "$@"' "$ray_folder" \
    --address="$head_ip:$port" "${common[@]}" & # Ray takes the folder's name from the head
fi

has_study=1 # 0: there is a study; 1: none; 2: the storage cannot be read
if [[ -n "${SLURM_RESTART_COUNT:-}" ]]; then
  has_study=0
  imbtune has-study "$storage/$name" || has_study=$?
fi
case "$has_study" in
  0) imbtune resume "$storage/$name" --address "$head_ip:$port" & ;;
  1) imbtune search "$@" --address "$head_ip:$port" --storage "$storage" --name "$name" & ;;
  *) exit "$has_study" ;;
esac
search=$!

out_of_time=
trap 'kill -TERM "$search" 2>/dev/null || true' TERM          # scancel, preemption: end in order
trap 'out_of_time=1; kill -TERM "$search" 2>/dev/null || true' USR1 # two minutes before the time limit
code=0
wait "$search" || code=$?
while kill -0 "$search" 2>/dev/null; do # a signal ended `wait`, and the search still writes its rows
  code=0
  wait "$search" || code=$?
done
if [[ -n "$out_of_time" ]] && ((code == 130)); then
  scontrol requeue "$SLURM_JOB_ID" # another time limit for the rest
fi
exit "$code"
