#!/usr/bin/env bash
# Install the tested versions into a virtual environment:
#     [PYTHON=...] bash tools/install.sh [VENV [current|original]]
# "original" installs OpenMMLab's own last releases (docs/install.md).
set -euo pipefail
cd "$(dirname "$0")/.."
venv=${1:-.venv}
packages=${2:-current}

fail() {
    echo "error: $*" >&2
    exit 1
}

[[ $packages == current || $packages == original ]] ||
    fail "PACKAGES=$packages is unknown: choose current or original."

# Run the candidate, because a name on PATH may be a shim of a version manager
# without any Python.
is_supported() {
    "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info < (3, 13))' \
        >/dev/null 2>&1
}

python=
if [ -n "${PYTHON:-}" ]; then
    is_supported "$PYTHON" ||
        fail "PYTHON=$PYTHON is not a working Python 3.10, 3.11 or 3.12:" \
            'name another, or leave it out.'
    python=$PYTHON
else
    for candidate in python3 python3.12 python3.11 python3.10; do
        if is_supported "$candidate"; then
            python=$candidate
            break
        fi
    done
    [ -n "$python" ] ||
        fail 'no Python 3.10, 3.11 or 3.12 on PATH: install one, or name it' \
            'with PYTHON=/path/to/python.'
fi

# Report progress, because an installation of gigabytes takes minutes. The
# output of sleep is closed, so that a sleep which outlives this script does not
# keep a pipe open.
log=$venv/install.log
while sleep 10 >/dev/null 2>&1 && kill -0 $$; do
    step=$(grep -oE '(Collecting|Downloading|Building|Installing) .*' "$log" \
        2>/dev/null | tail -n 1 | cut -c 1-50 || true)
    count=$(find "$venv" -name '*.dist-info' 2>/dev/null | wc -l)
    echo "  ${SECONDS} s, $count packages installed: ${step:-starting}"
done &
trap 'kill $! 2>/dev/null || true' EXIT

rm -rf "$venv"
echo "Creating $venv with $("$python" --version)."
if ! output=$("$python" -m venv "$venv" 2>&1); then
    rm -rf "$venv"
    # Debian's python3 has no ensurepip; uv and virtualenv have their own pip.
    if command -v uv >/dev/null; then
        uv venv --quiet --seed --python "$python" "$venv"
    elif "$python" -m virtualenv --version >/dev/null 2>&1; then
        "$python" -m virtualenv --quiet "$venv"
    elif [[ $output == *ensurepip* ]]; then
        package=$("$python" -c \
            'import sys; print("python%d.%d-venv" % sys.version_info[:2])')
        fail "$python cannot create a virtual environment: run" \
            "'apt-get update && apt-get install -y $package' as root and" \
            'try again.'
    else
        fail "$python cannot create $venv: $output"
    fi
fi

echo 'Installing PyTorch and OpenMMLab (a few minutes, up to 3 GB).'
constraints=requirements/constraints.txt
sources=(-e '.[dev]')
if [ "$packages" = original ]; then
    # The versions in original.txt replace those in constraints.txt.
    constraints=$venv/constraints.txt
    cp requirements/original.txt "$constraints"
    sed -n 's/==.*/==/; s/^[a-z].*==/^&/p' requirements/original.txt |
        grep -vf - requirements/constraints.txt >>"$constraints"
    sources=()
    for name in original runtime tables evaluation dev; do
        sources+=(-r "requirements/$name.txt")
    done
fi
# Set these in the environment, so that they also apply when packages are built;
# older versions of pip read only the first. A user's own constraints are kept.
export PIP_CONSTRAINT="${PIP_CONSTRAINT:+$PIP_CONSTRAINT }$constraints"
export PIP_BUILD_CONSTRAINT="${PIP_BUILD_CONSTRAINT:-} $constraints"
install() {
    "$venv/bin/python" -m pip --disable-pip-version-check install \
        --progress-bar off "$@" >>"$log" 2>&1 && return
    tail -n 20 "$log" >&2
    fail "pip install $* failed: the lines above say why, and $log has all."
}
install pip setuptools wheel
install "${sources[@]}"
if [ "$packages" = original ]; then
    install --no-deps -e .
fi
# Packages require both builds of OpenCV, which have the same files. Install the
# headless one last, because the other needs libGL, which servers lack.
install --no-deps --force-reinstall opencv-python-headless
"$venv/bin/python" tools/check_env.py
