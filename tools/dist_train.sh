#!/usr/bin/env bash
# Train on GPUS processes of this machine; more in launch.sh:
#     bash tools/dist_train.sh CONFIG GPUS [options of tools/train.py]
set -euo pipefail

if [ $# -lt 2 ]; then
    echo "usage: bash tools/dist_train.sh CONFIG GPUS [options]" >&2
    exit 2
fi
config=$1
gpus=$2
shift 2
exec bash "$(dirname "$0")/launch.sh" train.py "$gpus" "$config" "$@"
