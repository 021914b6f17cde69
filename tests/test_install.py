"""What `make` installs is pinned, and what stops it is a clear sentence."""

import os
import re
import runpy
import subprocess
from pathlib import Path

import pytest
import setuptools
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
PINS = [
    Requirement(line)
    for line in (ROOT / 'requirements/constraints.txt').read_text().split('\n')
    if line and not line.startswith('#')
]
PYTHONS = ['3.10', '3.11', '3.12']


@pytest.fixture
def declared(monkeypatch):
    """What setup.py hands to setuptools."""
    given = {}
    monkeypatch.setattr(setuptools, 'setup', given.update)
    runpy.run_path(str(ROOT / 'setup.py'))
    return given


def pins(python):
    """Version by name on one Python."""
    chosen = [
        pin
        for pin in PINS
        if pin.marker is None
        or pin.marker.evaluate({'python_version': python})
    ]
    names = [pin.name.lower() for pin in chosen]
    assert len(set(names)) == len(names), 'two pins for one package'
    return {pin.name.lower(): str(pin.specifier) for pin in chosen}


@pytest.mark.parametrize('python', PYTHONS)
def test_every_direct_dependency_has_one_version(declared, python):
    known = pins(python)
    assert all(re.fullmatch(r'==[\w.]+', pin) for pin in known.values())
    wanted = sum(declared['extras_require'].values(), [])
    for text in [*declared['install_requires'], *wanted]:
        requirement = Requirement(text)
        version = known[requirement.name.lower()].removeprefix('==')
        assert version in requirement.specifier


def test_pythons_are_those_of_the_pins(declared):
    allowed = Requirement(f'python{declared["python_requires"]}').specifier
    assert [p for p in ('3.9', *PYTHONS, '3.13') if p in allowed] == PYTHONS


def test_package_itself_names_no_line_of_openmmlab(declared):
    """Whoever has mmcv from elsewhere keeps it."""
    assert not re.search('mm', ' '.join(declared['install_requires']))


def fake(folder, name, body):
    """An executable of a few lines of shell."""
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f'#!/bin/bash\n{body}\n')
    (folder / name).chmod(0o755)


# A Python in all that the installer asks before it makes an environment.
VERSION = (
    'if [ "$1" = --version ]; then echo Python 3.12.0; exit; fi\n'
    'if [ "$1" = -c ]; then [[ $2 = *print* ]] && echo python3.12-venv; '
    'exit 0; fi\n'
)


def install(tmp_path, **environment):
    """Run the installer with nothing on PATH but fakes and the basics."""
    tools = tmp_path / 'basic'
    tools.mkdir()
    for name in ('bash', 'dirname', 'rm', 'env'):
        where = subprocess.check_output(['which', name], text=True).strip()
        (tools / name).symlink_to(where)
    path = f'{tmp_path / "fakes"}:{tools}'
    environment = {**os.environ, 'PATH': path, 'PYTHON': '', **environment}
    return subprocess.run(
        [tools / 'bash', ROOT / 'tools/install.sh', tmp_path / 'a venv'],
        env=environment,
        capture_output=True,
        text=True,
    )


def test_no_python_will_do(tmp_path):
    """A shim that fails when run is no Python."""
    fake(tmp_path / 'fakes', 'python3', 'echo not installed >&2; exit 127')
    fake(tmp_path / 'fakes', 'python3.12', 'exit 1')
    run = install(tmp_path)
    assert run.returncode == 1
    assert run.stderr == (
        'error: no Python 3.10, 3.11 or 3.12 on PATH: install one, or name it '
        'with PYTHON=/path/to/python.\n'
    )


def test_named_python_will_not_do(tmp_path):
    """And no other is taken instead."""
    fake(tmp_path / 'fakes', 'python3', VERSION)
    old = tmp_path / 'my fakes' / 'python'
    fake(old.parent, old.name, 'exit 1')
    run = install(tmp_path, PYTHON=str(old))
    assert run.returncode == 1
    assert f'PYTHON={old} is not a working Python 3.10' in run.stderr


def test_first_python_that_runs_is_taken(tmp_path):
    fake(tmp_path / 'fakes', 'python3', 'exit 127')
    fake(tmp_path / 'fakes', 'python3.11', VERSION + 'echo broken >&2; exit 1')
    run = install(tmp_path)
    assert 'with Python 3.12.0' in run.stdout
    assert 'error: python3.11 cannot create' in run.stderr
    assert run.stderr.strip().endswith('broken')


def test_debian_without_venv_says_what_to_install(tmp_path):
    body = VERSION + 'echo The module ensurepip is not available.; exit 1'
    fake(tmp_path / 'fakes', 'python3', body)
    run = install(tmp_path)
    assert run.returncode == 1
    assert "'apt-get update && apt-get install -y python3.12-venv'" in (
        run.stderr
    )


def test_broken_off_install_is_not_taken_for_complete(tmp_path):
    """Make begins it anew until it has ended well, and then no more."""
    for name in ('Makefile', 'setup.py'):
        (tmp_path / name).write_text((ROOT / name).read_text())
    for name in ('requirements/constraints.txt', 'tools/install.sh'):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text('mkdir -p $1; echo tried; test -e good\n')

    def make():
        return subprocess.run(
            ['make', '.venv/.installed'],
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )

    assert make().returncode != 0
    second = make()
    assert second.returncode != 0
    assert 'tried' in second.stdout
    (tmp_path / 'good').touch()
    assert 'tried' in make().stdout
    assert 'tried' not in make().stdout
