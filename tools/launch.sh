#!/usr/bin/env bash
# Run a tool on GPUS processes of this machine:
#     bash tools/launch.sh TOOL GPUS [arguments of the tool]
# On several machines, run it on each with NNODES, NODE_RANK (0 on the first),
# MASTER_ADDR (the first) and PORT set. Without CUDA the processes communicate
# over gloo.
set -euo pipefail

tool=$1
gpus=$2
shift 2
if [[ ! $gpus =~ ^[1-9][0-9]*$ ]]; then
    echo "error: GPUS is the number of processes to start, not '$gpus'." >&2
    exit 2
fi
if [[ ${NNODES:-1} != 1 && (-z ${NODE_RANK:-} || -z ${MASTER_ADDR:-}) ]]; then
    # Otherwise each would wait for the others for a quarter of an hour.
    echo "error: with NNODES=$NNODES, each machine needs NODE_RANK (0 on the first)" \
        "and MASTER_ADDR (the address of the first)." >&2
    exit 2
fi

tools=$(CDPATH="" cd -- "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
if [ -z "${PYTHON:-}${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] &&
    [ -x "$tools/../.venv/bin/python" ]; then
    python=$tools/../.venv/bin/python
fi
# By default, each process would start as many threads as there are cores.
cores=$(nproc 2>/dev/null || echo 1)
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores > gpus ? cores / gpus : 1))}

if [ "${NNODES:-1}" = 1 ] && [ -z "${PORT:-}" ]; then
    # --standalone chooses a free port, so that two runs do not collide. With
    # the loopback address, the machine's name need not resolve to one.
    rendezvous=(--standalone --local-addr 127.0.0.1)
else
    rendezvous=(
        --nnodes "${NNODES:-1}" --node-rank "${NODE_RANK:-0}"
        --master-addr "${MASTER_ADDR:-127.0.0.1}"
        --master-port "${PORT:-29500}"
    )
fi
exec "$python" "$tools/torchrun.py" "${rendezvous[@]}" \
    --nproc-per-node "$gpus" \
    "$tools/$tool" --launcher pytorch "$@"
