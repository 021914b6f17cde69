#!/usr/bin/env bash
# Evaluate on GPUS processes of this machine; more in launch.sh:
#     bash tools/dist_test.sh CONFIG CHECKPOINT GPUS [options of tools/test.py]
set -euo pipefail

if [ $# -lt 3 ]; then
    echo "usage: bash tools/dist_test.sh CONFIG CHECKPOINT GPUS [options]" >&2
    exit 2
fi
config=$1
checkpoint=$2
gpus=$3
shift 3
exec bash "$(dirname "$0")/launch.sh" test.py "$gpus" "$config" \
    "$checkpoint" "$@"
