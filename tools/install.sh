#!/usr/bin/env bash
# Install the tested versions into a virtual environment: VENV [PYTHON].
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}

suits() {
    "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' \
        >/dev/null 2>&1
}

python=
for candidate in ${PYTHON:-python3 python3.12 python3.11 python3.10}; do
    if suits "$candidate"; then
        python=$candidate
        break
    fi
done
if [ -z "$python" ]; then
    echo "error: ${PYTHON:-no python3 on PATH} is Python 3.10 to 3.12:" \
        "install one, or name it with PYTHON=/path/to/python." >&2
    exit 1
fi

rm -rf "$venv"
echo "Creating $venv with $("$python" --version)."
if ! "$python" -m venv "$venv" >/dev/null 2>&1; then
    rm -rf "$venv"
    # Debian's python3 comes without ensurepip; these bring their own.
    if command -v uv >/dev/null; then
        uv venv --quiet --seed --python "$python" "$venv"
    elif "$python" -m virtualenv --version >/dev/null 2>&1; then
        "$python" -m virtualenv --quiet "$venv"
    else
        echo "error: $python cannot create a virtual environment: run" \
            "'apt-get install python3-venv' and try again." >&2
        exit 1
    fi
fi

echo 'Installing PyTorch and OpenMMLab (a few minutes, up to 3 GB).'
pip=("$venv/bin/python" -m pip --disable-pip-version-check)
constraints=requirements/constraints.txt
"${pip[@]}" install -qq -c "$constraints" pip setuptools wheel
"${pip[@]}" install -qq -c "$constraints" -e '.[openmmlab,det,seg,dev]'
# Both builds of OpenCV get installed, and share their files. The headless
# one must come last: the other needs libGL, which a server does not have.
"${pip[@]}" install -qq -c "$constraints" --no-deps --force-reinstall \
    opencv-python-headless
"$venv/bin/python" tools/check_env.py
