#!/usr/bin/env bash
# Collect wheels for a machine that has PyTorch and no network:
#     bash tools/make_wheelhouse.sh [FOLDER]
# FOLDER is .wheelhouse by default, which git ignores and `make gpu` uses.
# requirements/wheelhouse.txt lists the packages that it has and those that it
# leaves out. tools/install_wheelhouse.sh installs them, for Python 3.12 on
# x86-64.
set -euo pipefail

limit_mb=40
root=$(cd "$(dirname "$0")/.." && pwd)
folder=${1:-$root/.wheelhouse}
python=${PYTHON:-python3}
if [ -z "${PYTHON:-}${VIRTUAL_ENV:-}${CONDA_PREFIX:-}" ] &&
    [ -x "$root/.venv/bin/python" ]; then
    python=$root/.venv/bin/python
fi

# Packages of OpenMMLab (onedl-*) come as sources, from which pip builds wheels
# for every Python and machine. All others are downloaded as wheels.
names=$(grep -v '^#' "$root/requirements/wheelhouse.txt")
sources=$(grep '^onedl-' <<<"$names")
binaries=$(grep -v '^onedl-' <<<"$names")
pins=$root/requirements/constraints.txt
if [ -e "$folder" ] && [ -n "$(ls -A "$folder")" ]; then
    echo "error: $folder is not empty: remove it first." >&2
    exit 1
fi
mkdir -p "$folder"

# The build is isolated from PyTorch, so that MMCV compiles nothing.
# shellcheck disable=SC2086
MMCV_WITH_OPS=0 "$python" -m pip wheel --quiet --no-deps \
    -c "$pins" -w "$folder" $sources
if compgen -G "$folder/onedl_*-linux_*" >/dev/null; then
    echo "error: a package of OpenMMLab was compiled for this machine." >&2
    exit 1
fi
platforms=(any)
for tag in 2014 _2_17 _2_24 _2_27 _2_28; do
    platforms+=("manylinux${tag}_x86_64")
done
# shellcheck disable=SC2086
"$python" -m pip download --quiet --no-deps --only-binary=:all: \
    --python-version 3.12 --implementation cp \
    "${platforms[@]/#/--platform=}" \
    -c <(grep -Ev '^(torch|torchvision)==' "$pins" |
        sed -E 's/; *python_version *>= *"3\.11"//; /python_version *</d') \
    -d "$folder" $binaries

mb=$(($(du -sb "$folder" | cut -f1) / 1000000))
echo "$(ls "$folder" | wc -l) wheels, $mb MB, in $folder"
if [ "$mb" -gt "$limit_mb" ]; then
    echo "error: more than $limit_mb MB." >&2
    exit 1
fi
