#!/usr/bin/env bash
# Install the tested versions into a virtual environment: [PYTHON=...] VENV.
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}

fail() {
    echo "error: $*" >&2
    exit 1
}

# A name on PATH proves nothing: it may be a shim of a version manager.
suits() {
    "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' \
        >/dev/null 2>&1
}

python=
if [ -n "${PYTHON:-}" ]; then
    suits "$PYTHON" ||
        fail "PYTHON=$PYTHON is not a working Python 3.10, 3.11 or 3.12:" \
            'name another, or leave it out.'
    python=$PYTHON
else
    for candidate in python3 python3.12 python3.11 python3.10; do
        if suits "$candidate"; then
            python=$candidate
            break
        fi
    done
    [ -n "$python" ] ||
        fail 'no Python 3.10, 3.11 or 3.12 on PATH: install one, or name it' \
            'with PYTHON=/path/to/python.'
fi

rm -rf "$venv"
echo "Creating $venv with $("$python" --version)."
if ! said=$("$python" -m venv "$venv" 2>&1); then
    rm -rf "$venv"
    # Debian's python3 comes without ensurepip; these bring a pip.
    if command -v uv >/dev/null; then
        uv venv --quiet --seed --python "$python" "$venv"
    elif "$python" -m virtualenv --version >/dev/null 2>&1; then
        "$python" -m virtualenv --quiet "$venv"
    elif [[ $said == *ensurepip* ]]; then
        package=$("$python" -c \
            'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
        fail "$python cannot create a virtual environment: run" \
            "'apt-get update && apt-get install -y $package' as root and" \
            'try again.'
    else
        fail "$python cannot create $venv: $said"
    fi
fi

echo 'Installing PyTorch and OpenMMLab (a few minutes, up to 3 GB).'
pip=("$venv/bin/python" -m pip --disable-pip-version-check)
# Through the environment, for these hold in the builds of packages, too:
# first for older pips, then for newer ones. A user's own are kept.
constraints=requirements/constraints.txt
export PIP_CONSTRAINT="${PIP_CONSTRAINT:+$PIP_CONSTRAINT }$constraints"
export PIP_BUILD_CONSTRAINT="${PIP_BUILD_CONSTRAINT:-} $constraints"
"${pip[@]}" install -qq pip setuptools wheel
"${pip[@]}" install -qq -e '.[openmmlab,det,seg,dev]'
# Both builds of OpenCV get installed, and share their files. The headless
# one must come last: the other needs libGL, which a server does not have.
"${pip[@]}" install -qq --no-deps --force-reinstall opencv-python-headless
"$venv/bin/python" tools/check_env.py
