#!/bin/bash
# One run on whole nodes of a Slurm cluster, from a checkout with its .venv on a shared disk:
#   sbatch --nodes 4 --gpus-per-node 8 deploy/slurm.sh --input s3://bucket/images/ --output labels
# What follows the script's name are flags of jobs.detect. deploy/slurm.md says more.
#SBATCH --job-name=prelabel
#SBATCH --nodes=1
#SBATCH --gpus-per-node=1
#SBATCH --time=24:00:00
# whole nodes: Ray counts all CPUs and memory of a machine as its own, and listens on fixed ports
#SBATCH --exclusive
#SBATCH --mem=0
# a lost node costs what was in its hands, not the job
#SBATCH --no-kill
# queued again when its time is over or its first node is lost; two minutes for what is in flight
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
#SBATCH --output=prelabel-%j.log
#SBATCH --open-mode=append
set -euo pipefail

export PATH="$SLURM_SUBMIT_DIR/.venv/bin:$PATH"
# another user's /tmp/ray cannot be written to; short, since Ray puts sockets there
export RAY_TMPDIR="/tmp/ray-$SLURM_JOB_ID"
# who reaches the ports of a cluster without a token can run code as this user
export RAY_AUTH_MODE=token RAY_AUTH_TOKEN
RAY_AUTH_TOKEN=$(python -c "import secrets; print(secrets.token_hex())")
export RAY_USAGE_STATS_ENABLED=0
# the address by which this node leaves for others, as Ray itself finds it
address=$(python -c "import ray; print(ray.util.get_node_ip_address())")
export RAY_ADDRESS="$address:6379"

members=()
leave() {
    # workers first, else they report the loss of their head
    for member in "${members[@]}"; do kill "$member" 2>/dev/null && wait "$member" || true; done
}
trap leave EXIT

# draining is for what others still want of a node; the head goes last
RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0 \
    ray start --head --block --node-ip-address "$address" --port 6379 --include-dashboard false &
members=("$!")
until ray status >/dev/null 2>&1; do
    kill -0 "${members[0]}" # else Ray's head did not start, and its lines above say why
    sleep 1
done
others=$((SLURM_JOB_NUM_NODES - 1))
if ((others)); then
    srun --nodes "$others" --ntasks "$others" --exclude "$SLURMD_NODENAME" \
        --cpus-per-task "$SLURM_CPUS_ON_NODE" --no-kill --kill-on-bad-exit=0 --wait 0 \
        ray start --block --address "$RAY_ADDRESS" &
    members=("$!" "${members[@]}")
    # those that are late are taken in while the run goes on
    for _ in {1..60}; do
        (($(ray status | grep -c '^ 1 node_') > others)) && break
        sleep 1
    done
fi

again=no
python -m jobs.detect "$@" &
run=$!
trap 'again=yes; kill -TERM "$run"' USR1
trap 'kill -TERM "$run"' TERM
while true; do
    code=0
    wait "$run" || code=$?
    kill -0 "$run" 2>/dev/null || break # a signal ends `wait`, not the run
done
leave
members=()
if ((code == 0)); then # else Ray's logs are worth a look
    srun --ntasks-per-node 1 rm -rf "$RAY_TMPDIR"
fi
if ((code == 143)) && [[ $again == yes ]]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
