"""Each thing that can be wrong gets the command that mends it."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

TOOL = Path(__file__).resolve().parents[2] / 'tools/check_env.py'
spec = importlib.util.spec_from_file_location('check_env', TOOL)
check_env = importlib.util.module_from_spec(spec)
sys.modules['check_env'] = check_env
spec.loader.exec_module(check_env)


def failing(error):
    def load(name):
        raise error

    return load


def test_this_environment_can_train():
    report = subprocess.run(
        [sys.executable, TOOL], capture_output=True, text=True, cwd='/'
    )
    assert report.returncode == 0, report.stdout
    assert 'Pre-training can run here.' in report.stdout
    assert report.stderr == ''


def test_it_runs_with_nothing_installed():
    report = subprocess.run(
        [sys.executable, '-I', '-S', TOOL], capture_output=True, text=True
    )
    assert report.returncode == 1
    assert '-> pip install -c requirements/constraints.txt' in report.stdout
    assert report.stderr == ''


@pytest.mark.parametrize(
    ('version', 'fails'),
    [((3, 9, 1), True), ((3, 10, 0), False), ((3, 13, 0), True)],
)
def test_python_versions(version, fails):
    assert check_env.check_python(version).fails == fails


@pytest.mark.parametrize(
    ('name', 'error', 'remedy', 'fails'),
    [
        (
            'mmpretrain',
            ModuleNotFoundError('No module', name='mmpretrain'),
            '.[openmmlab]',
            True,
        ),
        ('mmdet', ModuleNotFoundError('No', name='mmdet'), '.[det]', False),
        (
            'mmengine',
            ModuleNotFoundError('No', name='pkg_resources'),
            'setuptools<82',
            True,
        ),
        (
            'cv2',
            ImportError('libGL.so.1: cannot open shared object file'),
            'opencv-python-headless',
            True,
        ),
        (
            'mmseg',
            AssertionError('MMCV==2.3 is used but incompatible'),
            '.[seg]',
            False,
        ),
    ],
)
def test_modules_that_do_not_import(name, error, remedy, fails):
    finding = check_env.check_module(name, failing(error))
    assert finding.problem
    assert remedy in finding.remedy
    assert finding.fails == fails


def test_a_module_that_imports_shows_its_version():
    finding = check_env.check_module(
        'mmcv', lambda name: SimpleNamespace(__version__='2.3.6')
    )
    assert (finding.found, finding.problem) == ('2.3.6', '')


@pytest.mark.parametrize(
    ('versions', 'remedies'),
    [
        (dict(torch='2.11.0+cpu', torchvision='0.26.0'), []),
        (dict(torch='2.11.0', torchvision='0.25.0'), ['torchvision==0.26.*']),
        (dict(torch='2.3.1', torchvision='0.18.1'), ['.[openmmlab]']),
        (dict(torch='2.6.0', mmengine='0.10.7'), ['pip uninstall mmengine']),
        (dict(torch='2.11.0', mmengine='0.10.12'), []),
    ],
)
def test_versions_that_do_not_go_together(versions, remedies):
    found = check_env.check_pairs(versions)
    assert len(found) == len(remedies)
    for finding, remedy in zip(found, remedies, strict=True):
        assert finding.fails
        assert remedy in finding.remedy


def test_small_shared_memory_is_a_note(monkeypatch):
    monkeypatch.setattr(
        check_env.shutil,
        'disk_usage',
        lambda folder: SimpleNamespace(free=64 * 2**20),
    )
    finding = check_env.check_shared_memory('/')
    assert 'shm-size' in finding.remedy
    assert not finding.fails
