"""The kit for a machine without network: what it asks for, and its install."""

import os
import sys
import zipfile
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, requires

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests import ROOT
from tests.commands import executable, run

NAMES = [
    line
    for line in (ROOT / 'requirements/wheelhouse.txt').read_text().splitlines()
    if not line.startswith('#')
]
# What the machine has, by the comment in that file.
LEFT_OUT = {
    *('torch', 'torchvision', 'scipy', 'opencv-python-headless', 'pillow'),
    *('matplotlib', 'tensorboard', 'scikit-image', 'rich', 'regex'),
    *('safetensors', 'timm', 'pytest', 'hypothesis'),
    'opencv-python',  # the same module as the headless package
    'numba',
}
# A stand-in for pip that writes a wheel of some size for each call.
PIP = """#!/bin/bash
printf '%s\\n' "$@" '' >> "$LOG"
for word; do
    [[ ${last:-} = -[dw] ]] && head -c "$SIZE" /dev/zero > "$word/$3.whl"
    [[ ${last:-} = -c && $3 = download ]] && cat "$word" > "$LOG.pins"
    last=$word
done
"""


@pytest.fixture
def collect(tmp_path):
    """Run the script with that pip; returns the process, words and pins."""
    fake = executable(tmp_path / 'python', PIP)

    def _collect(size):
        log, folder = tmp_path / 'log', tmp_path / 'wheels'
        env = dict(PYTHON=str(fake), LOG=str(log), SIZE=str(size))
        done = run('bash', 'tools/make_wheelhouse.sh', folder, **env)
        words = [c.split() for c in log.read_text().split('\n\n') if c]
        return done, words, (tmp_path / 'log.pins').read_text()

    return _collect


def test_every_name_is_asked_for_once_and_pinned(collect):
    done, (wheel, download), pins = collect(10)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith('2 wheels, 0 MB')
    assert sorted(set(NAMES) & {*wheel}) == [
        n for n in sorted(NAMES) if n.startswith('onedl-')
    ]
    assert set(NAMES) & {*download} == set(NAMES) - {*wheel}
    assert '3.12' in download
    pinned = {line.partition('==')[0] for line in pins.splitlines()}
    assert set(NAMES) <= pinned
    assert not {'torch', 'torchvision'} & pinned
    # Markers would be those of the Python that runs pip.
    assert 'python_version' not in pins


def needed(names: Iterable[str]) -> set[str]:
    """Return the packages that packages require, as far as installed here."""
    found = set()
    for name in names:
        try:
            lines = requires(name) or []
        except PackageNotFoundError:  # of another system or Python
            continue
        for requirement in map(Requirement, lines):
            here = dict(extra='', python_version='3.12')
            if not requirement.marker or requirement.marker.evaluate(here):
                found.add(canonicalize_name(requirement.name))
    return found


def test_no_requirement_is_missing():
    """Packages of the machine may stop requiring what ours need as well."""
    there, new = {*LEFT_OUT}, {*LEFT_OUT}
    while new:
        new = needed(new) - there
        there |= new
    assert 'sympy' in there  # by torch
    assert needed(NAMES) <= there | {*NAMES}


def test_a_kit_that_is_too_large_is_an_error(collect):
    done, *_ = collect(25_000_000)
    assert done.returncode == 1
    assert done.stderr == 'error: more than 40 MB.\n'


def test_a_folder_with_files_is_refused(tmp_path):
    (tmp_path / 'old.whl').touch()
    done = run('bash', 'tools/make_wheelhouse.sh', tmp_path)
    assert (done.returncode, done.stderr.count('\n')) == (1, 1)
    assert 'not empty' in done.stderr


def write_wheel(folder, name):
    info = f'{name}-1.dist-info'
    files = {
        f'{name}.py': 'value = 7\n',
        f'{info}/METADATA': f'Metadata-Version: 2.1\nName: {name}\n'
        'Version: 1\nRequires-Dist: torch==0.1\n',
        f'{info}/WHEEL': 'Wheel-Version: 1.0\nRoot-Is-Purelib: true\n'
        'Tag: py3-none-any\n',
    }
    files[f'{info}/RECORD'] = ''.join(f'{file},,\n' for file in files)
    with zipfile.ZipFile(folder / f'{name}-1-py3-none-any.whl', 'w') as wheel:
        for file, text in files.items():
            wheel.writestr(file, text)


def test_installs_beside_what_is_there(tmp_path, monkeypatch):
    folder, target = tmp_path / 'wheels', tmp_path / 'site'
    folder.mkdir()
    words = ('bash', 'tools/install_wheelhouse.sh', folder, target)
    done = run(*words)
    assert (done.returncode, done.stderr.count('\n')) == (1, 1)
    assert 'has no wheels' in done.stderr

    write_wheel(folder, 'onedl_mmengine')
    done = run(*words)
    assert done.returncode == 0, done.stderr
    names = {path.name for path in target.iterdir()}
    assert names == {
        *('onedl_mmengine.py', 'onedl_mmengine-1.dist-info', '__pycache__')
    }
    code = 'import onedl_mmengine, importlib.util as u; '
    code += 'print(u.find_spec("torch").origin)'
    # As `make gpu` sets it for tests, which pass it on to their commands.
    path = os.pathsep.join([str(ROOT), str(target)])
    monkeypatch.setenv('PYTHONPATH', path)
    done = run(sys.executable, '-c', code)
    assert str(target) not in done.stdout
    assert done.stdout, done.stderr
