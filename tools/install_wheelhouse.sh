#!/usr/bin/env bash
# Install the wheels of tools/make_wheelhouse.sh for an existing PyTorch,
# without network and without changing any installed package:
#     bash tools/install_wheelhouse.sh FOLDER TARGET
#     export PYTHONPATH=$PWD:TARGET
# TARGET is a new folder; removing it undoes the installation.
set -euo pipefail

if [ $# -ne 2 ]; then
    echo "usage: bash tools/install_wheelhouse.sh FOLDER TARGET" >&2
    exit 2
fi
folder=$1
target=$2
python=${PYTHON:-python3}
if ! compgen -G "$folder/onedl_mmengine-*.whl" >/dev/null; then
    echo "error: $folder has no wheels: make it where there is a network," \
        "with tools/make_wheelhouse.sh." >&2
    exit 1
fi
"$python" -m pip install --quiet --no-index --no-deps --no-compile \
    --no-cache-dir --upgrade --target "$target" "$folder"/*.whl
# Compile them once, on all processors: with PYTHONDONTWRITEBYTECODE set, every
# process would compile every module again. A template that is no valid Python
# does not matter.
"$python" -m compileall -q -j 0 "$target" || true
