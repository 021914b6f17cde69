#!/usr/bin/env bash
# Train on GPUS processes through Slurm's srun:
#     bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG GPUS [options]
# GPUS_PER_NODE (8), CPUS_PER_TASK (8) and SRUN_ARGS adapt it to the cluster.
set -euo pipefail

if [ $# -lt 4 ]; then
    echo "usage: bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG GPUS" \
        "[options]" >&2
    exit 2
fi
partition=$1
job=$2
config=$3
gpus=$4
shift 4
if [[ ! $gpus =~ ^[1-9][0-9]*$ ]]; then
    echo "error: GPUS is the number of processes to start, not '$gpus'." >&2
    exit 2
fi
per_node=${GPUS_PER_NODE:-8}
if [[ ! $per_node =~ ^[1-9][0-9]*$ ]]; then
    echo "error: GPUS_PER_NODE is a number of processes, not '$per_node'." >&2
    exit 2
fi

tools=$(CDPATH="" cd -- "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
if [ -z "${PYTHON:-}${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] &&
    [ -x "$tools/../.venv/bin/python" ]; then
    python=$tools/../.venv/bin/python
fi
# By default, each process would start as many threads as there are cores.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-${CPUS_PER_TASK:-8}}

per_node=$((gpus < per_node ? gpus : per_node))
# MMEngine reads this variable in each process; srun passes it on. The port is
# random, so that two jobs on a machine do not collide, and below Linux's
# ephemeral ports.
export MASTER_PORT=${PORT:-$((20000 + RANDOM % 12000))}
# A list of options, whose brackets are no patterns of file names.
read -ra more <<<"${SRUN_ARGS:-}"
exec srun --partition "$partition" --job-name "$job" \
    --ntasks "$gpus" --ntasks-per-node "$per_node" \
    --gres "gpu:$per_node" --cpus-per-task "${CPUS_PER_TASK:-8}" \
    --kill-on-bad-exit=1 ${more[@]+"${more[@]}"} \
    "$python" -u "$tools/train.py" "$config" --launcher slurm "$@"
