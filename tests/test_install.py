"""The wheel, the pinned versions, and what the installer says."""

import re
import shutil
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from tests import ROOT
from tests.commands import executable, run
from tests.test_datasets.pictures import write_pictures

DEMO = 'configs/pretrain/pixcon_r18_demo.py'
PYTHONS = ['3.10', '3.11', '3.12']
BASH = '#!/bin/bash\n'
# A Python, as far as the installer asks before it makes an environment.
PYTHON_312 = (
    '[ "$1" = -m ] || { [[ $2 = *print* ]] && echo python3.12-venv; exit 0; }'
)


def requirements(name):
    lines = (ROOT / f'requirements/{name}.txt').read_text().splitlines()
    return [Requirement(x) for x in lines if x and not x.startswith('#')]


@pytest.mark.parametrize('python', PYTHONS)
def test_every_direct_dependency_has_one_version(python):
    pins = {}
    for pin in requirements('constraints'):
        if not pin.marker or pin.marker.evaluate({'python_version': python}):
            assert re.fullmatch(r'==[\w.]+', str(pin.specifier))
            assert pin.name not in pins
            pins[pin.name] = str(pin.specifier).removeprefix('==')
    for name in (
        *('runtime', 'openmmlab', 'tables', 'evaluation', 'export', 'dev'),
    ):
        for wanted in requirements(name):
            assert pins[wanted.name] in wanted.specifier


@pytest.fixture(scope='module')
def installed(tmp_path_factory):
    """Folder with the contents of the wheel."""
    folder = tmp_path_factory.mktemp('wheel')
    unwanted = shutil.ignore_patterns('.*', 'work_dirs', 'data', 'build')
    source = shutil.copytree(ROOT, folder / 'source', ignore=unwanted)
    old = source / 'build/lib/pixcon_mm/deleted.py'
    old.parent.mkdir(parents=True)
    old.touch()
    wheel = [sys.executable, '-m', 'pip', 'wheel', '--no-deps']
    result = run(*wheel, '--no-build-isolation', '-w', folder, source)
    assert result.returncode == 0, result.stderr
    zipfile.ZipFile(*folder.glob('*.whl')).extractall(folder / 'site')
    return folder / 'site'


def test_wheel_is_complete_and_needs_no_repository(installed):
    mim = installed / 'pixcon_mm/.mim'
    for pattern in ('configs/**/*.py', 'configs/**/*.yml', 'model-index.yml'):
        expected = {x.relative_to(ROOT) for x in ROOT.glob(pattern)}
        assert {x.relative_to(mim) for x in mim.glob(pattern)} == expected
    assert (installed / 'pixcon_mm/py.typed').exists()
    (metadata,) = installed.glob('*.dist-info/METADATA')
    for requirement in requirements('runtime') + requirements('openmmlab'):
        assert f'Requires-Dist: {requirement}\n' in metadata.read_text()

    assert not (installed / 'pixcon_mm/deleted.py').exists()
    # Nothing that needs the repository.
    programs = r'^\s*(from|import) (benchmarks|reproduction)\b'
    for path in installed.rglob('*.py'):
        assert not re.search(programs, path.read_text(), re.MULTILINE), path


@pytest.mark.slow
@pytest.mark.parametrize('is_script', [True, False])
def test_wheel_pretrains_on_a_folder_of_images(installed, tmp_path, is_script):
    mim = installed / 'pixcon_mm/.mim'
    command = [mim / 'tools/train.py', mim / DEMO]
    if not is_script:
        # As pixcon-train does; the recipe by its name.
        (points,) = installed.glob('*.dist-info/entry_points.txt')
        assert 'pixcon-train = pixcon_mm.tools.train:run' in points.read_text()
        module = ['-m', 'pixcon_mm.tools.train']
        command = [sys.executable, *module, Path(DEMO).name]
    command += [
        '--epochs',
        1,
        '--cfg-options',
        'data_root=images',
        'model.queue_len=8',
    ]
    loader = ['num_workers=0', 'batch_size=2']
    command += [f'train_dataloader.{option}' for option in loader]
    write_pictures(tmp_path / 'images', 4)
    result = run(*command, cwd=tmp_path, PYTHONPATH=str(installed))
    assert result.returncode == 0, result.stderr
    assert (tmp_path / 'work_dirs/pixcon_r18_demo/epoch_1.pth').exists()


@pytest.mark.parametrize(
    ('python3', 'python_311', 'named', 'message'),
    [
        # A shim of a version manager stands on PATH, and fails.
        ('exit 127', 'exit 1', '', 'no Python 3.10, 3.11 or 3.12 on PATH'),
        ('exit 127', f'{PYTHON_312}; exit 1', '', 'python3.11 cannot create'),
        (
            f'{PYTHON_312}; echo ensurepip is not available; exit 1',
            'exit 0',
            '',
            "'apt-get update && apt-get install -y python3.12-venv'",
        ),
        # No other is taken than the named one.
        (PYTHON_312, 'exit 0', 'false', 'PYTHON=false is not a working'),
    ],
)
def test_failure_is_explained(tmp_path, python3, python_311, named, message):
    executable(tmp_path / 'python3', BASH + python3)
    executable(tmp_path / 'python3.11', BASH + python_311)
    # Nothing is on PATH but these and the basics.
    for name in ('bash', 'dirname', 'env', 'rm'):
        (tmp_path / name).symlink_to(shutil.which(name))
    result = run(
        *(tmp_path / 'bash', ROOT / 'tools/install.sh', tmp_path / 'a venv'),
        **dict(PATH=str(tmp_path), PYTHON=named),
    )
    assert result.returncode == 1
    assert message in result.stderr


@pytest.mark.parametrize('packages', ['current', 'original'])
def test_make_repeats_an_install_until_it_is_complete(tmp_path, packages):
    for folder in ('requirements', 'tools'):
        (tmp_path / folder).mkdir()
    (tmp_path / 'tools/install.sh').write_text(
        'mkdir -p $1; echo "tried $2"; test -e good\n'
    )
    for name in ('Makefile', 'pyproject.toml', 'setup.py'):
        shutil.copy(ROOT / name, tmp_path)
    venv = '.venv' if packages == 'current' else '.venv-original'
    make = ['make', f'{venv}/.installed', f'PACKAGES={packages}']
    for _ in range(2):
        result = run(*make, cwd=tmp_path)
        assert f'tried {packages}' in result.stdout
        assert result.returncode != 0
    (tmp_path / 'good').touch()
    assert 'tried' in run(*make, cwd=tmp_path).stdout
    assert 'tried' not in run(*make, cwd=tmp_path).stdout
