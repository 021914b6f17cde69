"""The environment check names the command that corrects each failure."""

import sys

import pytest

from tests import ROOT
from tests.commands import executable, load_tool, run

check_env = load_tool('check_env')
PIP = check_env.PIP
VERSIONS = dict.fromkeys(check_env.PACKAGES, '1.0')
VERSIONS.update(torch='2.11.0+cu130', torchvision='0.26.0+cu130')
MACHINE = dict(python=(3, 11, 7), driver=True)


def check(errors=(), cuda='13.0', gpus=1, machine=(), **versions):
    """List problems of a machine where only the arguments are wrong."""
    errors = dict(errors)
    found = {
        name: dict(version=version, error=errors.get(name, ''))
        for name, version in {**VERSIONS, **versions}.items()
    }
    found['torch'].update(cuda=cuda, gpus=gpus)
    return check_env.problems(found, **{**MACHINE, **dict(machine)})


@pytest.mark.parametrize('minor', [9, 10, 12, 13])
def test_python(minor):
    wrong = check(machine=dict(python=(3, minor, 1)))
    assert ('Python' in wrong) == (minor in (9, 13))


@pytest.mark.parametrize(
    ('name', 'error', 'command'),
    [
        ('mmdet', "No module named 'mmdet'", f'{PIP} -e .'),
        ('cv2', 'libGL.so.1: cannot open shared object', check_env.HEADLESS),
        ('mmcv', 'libgthread-2.0.so.0: cannot open', check_env.HEADLESS),
        ('cv2', 'numpy.core.multiarray failed to import', 'numpy opencv-'),
        ('torch', 'libcudnn.so.9: cannot open', check_env.TORCH),
        ('mmcv', "No module named 'pkg_resources'", 'setuptools<82'),
        ('mmengine', "cannot import name 'Config'", check_env.SWAP),
        ('mmpretrain', 'MMCV==2.3.6 is incompatible', check_env.SWAP),
    ],
)
def test_a_package_that_does_not_import(name, error, command):
    ((sentence, found),) = check({name: error}).values()
    assert error in sentence
    assert command in found


@pytest.mark.parametrize(
    ('torch', 'torchvision', 'wanted'),
    [
        ('2.7.1', '0.22.1', None),
        ('2.10.0+cpu', '0.25.0', None),
        ('2.11.0+cu130', '0.25.0', '0.26'),
        ('2.7.1', '0.26.0+cu130', '0.22'),
    ],
)
def test_torch_and_torchvision_fit(torch, torchvision, wanted):
    # The import fails without naming the cause.
    error = 'operator torchvision::nms does not exist' if wanted else ''
    wrong = check({'torchvision': error}, torch=torch, torchvision=torchvision)
    assert list(wrong) == (['torchvision'] if wanted else [])
    if wanted:
        base = torch.split('+')[0]
        assert wrong['torchvision'][1] == (
            f"pip install 'torch=={base}' 'torchvision=={wanted}.*'"
        )


def test_torch_is_too_old():
    wrong = check(torch='2.6.0', torchvision='0.21.0')
    assert wrong == {
        'torch': ('is older than 2.7', f'{PIP} torch torchvision')
    }


def test_gpus():
    assert check(gpus=0)['GPU'][1].startswith('nvidia-smi')
    assert check(cuda=None)['GPU'][1] == check_env.TORCH
    assert check(cuda=None, machine=dict(driver=False)) == {}


def test_probe_survives_noise_errors_and_crashes(tmp_path, monkeypatch, capfd):
    monkeypatch.setenv('PYTHONPATH', str(tmp_path))
    modules = {
        'noisy_pkg': 'import sys\nprint("noise")\nsys.stderr.write("noise")\n'
        '__version__ = "1.2"\n',
        'broken_pkg': 'import noisy_pkg\n1 / 0\n',
        'crashing_pkg': 'import os\nos.abort()\n',
    }
    for name, text in modules.items():
        (tmp_path / f'{name}.py').write_text(text)
    noisy, broken, crashing = check_env.probe(tuple(modules)).values()
    assert noisy == dict(name='noisy_pkg', version='1.2', error='')
    assert broken['error'].startswith('ZeroDivisionError')
    assert crashing['error'] == 'importing it crashes Python'
    assert capfd.readouterr() == ('', '')


def test_nothing_is_installed(tmp_path, monkeypatch, capsys):
    text = f'exec "{sys.executable}" -I -S "$@"'
    bare = executable(tmp_path / 'python', text)
    monkeypatch.setattr(sys, 'executable', str(bare))
    assert check_env.main() == 1
    shown = capsys.readouterr().out
    assert 'torch: does not import (ModuleNotFoundError: No m' in shown
    assert shown.count(f'\n    {bare} -m {check_env.INSTALL}\n') == 1
    assert f'Run the commands in {ROOT}' in shown
    assert shown.endswith('Pre-training cannot run yet.\n')


@pytest.mark.slow
def test_this_environment_can_pretrain(tmp_path):
    done = run('tools/check_env.py')
    assert (done.returncode, done.stderr) == (0, '')
    words = 'Pre-training can run; detection and segmentation can run as well.'
    assert done.stdout.splitlines()[-1] == words
    import torch

    assert ['torch', torch.__version__] in [
        line.split() for line in done.stdout.splitlines()
    ]
