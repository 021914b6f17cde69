"""The environment check names the command that mends each failure."""

import importlib.util
import logging
import subprocess
import sys
import types
import warnings
from importlib.machinery import PathFinder
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / 'tools/check_env.py'
CONSTRAINED = 'pip install -c requirements/constraints.txt'
INSTALL = f"{CONSTRAINED} -e '.[openmmlab]'"
HEADLESS = f'{CONSTRAINED} --force-reinstall --no-deps opencv-python-headless'
SWAP_MMENGINE = (
    f'pip uninstall -y mmengine && {CONSTRAINED} --force-reinstall --no-deps '
    'onedl-mmengine'
)
SWAP_ALL = (
    'pip uninstall -y mmengine mmcv mmcv-lite mmpretrain && '
    f'{CONSTRAINED} --force-reinstall --no-deps '
    'onedl-mmengine onedl-mmcv onedl-mmpretrain'
)
TORCH = f'{CONSTRAINED} --force-reinstall torch torchvision'

spec = importlib.util.spec_from_file_location('check_env', TOOL)
check_env = importlib.util.module_from_spec(spec)
# Dataclasses look their module up.
sys.modules['check_env'] = check_env
spec.loader.exec_module(check_env)
Finding, Probe = check_env.Finding, check_env.Probe

VERSIONS = {
    'torch': '2.11.0+cu130',
    'torchvision': '0.26.0+cu130',
    'numpy': '2.2.6',
    'cv2': '4.12.0',
    'setuptools': '81.0.0',
    'mmengine': '0.10.12',
    'mmcv': '2.3.6',
    'mmcv._ext': '',
    'mmpretrain': '1.3.6',
    'mmdet': '3.5.1',
    'mmseg': '1.4.2',
    'pixcon_mm': '0.1.0',
}


def missing(name):
    return ModuleNotFoundError(f'No module named {name!r}', name=name)


class Machine:
    """A machine on which all is well, unless a test breaks it."""

    def __init__(self, monkeypatch):
        self.versions = dict(VERSIONS)
        self.errors = {}
        self.python = (3, 11, 7)
        self.cuda = '13.0'
        self.gpus = [('H200', 140 * 2**30)]
        self.has_driver = True
        self.shm = 8 * 2**30
        self.source = 'torch.load(file, weights_only=False)'
        self.has_pkg_resources = True
        usage = types.SimpleNamespace
        patches = {
            'probe': self.probe,
            'usable_gpus': lambda torch: self.gpus,
            'source_of': lambda *args: self.source,
            'find_spec': lambda name: self.has_pkg_resources or None,
            'shutil.which': lambda name: self.has_driver or None,
            'shutil.disk_usage': lambda path: usage(total=self.shm),
        }
        for name, value in patches.items():
            monkeypatch.setattr(f'check_env.{name}', value)
        monkeypatch.setattr('check_env.sys.path', list(sys.path))

    def probe(self, name, *submodules):
        if name in self.errors:
            return Probe(name, self.versions[name], self.errors[name])
        version = types.SimpleNamespace(cuda=self.cuda)
        module = types.SimpleNamespace(version=version)
        return Probe(name, self.versions[name], None, module)

    def problems(self, monkeypatch):
        """Findings with a problem, by name; and whether all can run."""
        with monkeypatch.context() as patch:
            patch.setattr('check_env.sys.version_info', self.python)
            findings = check_env.collect()
        assert len({f.name for f in findings}) == len(findings)
        broken = {f.name: f for f in findings if f.problem}
        return broken, check_env.can_pretrain(findings)


@pytest.fixture
def machine(monkeypatch):
    machine = Machine(monkeypatch)
    machine.check = lambda: machine.problems(monkeypatch)
    return machine


def test_nothing_is_wrong_where_all_is_well(machine):
    assert machine.check() == ({}, True)


@pytest.mark.parametrize(
    ('python', 'good'),
    [((3, 9, 18), False), ((3, 10, 0), True), ((3, 12, 9), True)]
    + [((3, 13, 0), False)],
)
def test_python(machine, python, good):
    machine.python = python
    problems, can_run = machine.check()
    assert can_run == good
    if not good:
        remedy = problems['Python'].remedy
        assert remedy == 'PYTHON=python3.12 bash tools/install.sh'


@pytest.mark.parametrize(
    'name', sorted(set(VERSIONS) - {'mmdet', 'mmseg', 'mmcv._ext'})
)
def test_a_missing_package(machine, name):
    machine.errors[name] = missing(name)
    machine.versions[name] = ''
    problems, can_run = machine.check()
    if name == 'setuptools':
        assert (problems, can_run) == ({}, True)
        return
    assert not can_run
    expected = Finding(name, 'not installed', 'is not installed', INSTALL)
    assert problems == {name: expected}


@pytest.mark.parametrize(
    ('name', 'extra'), [('mmdet', 'det'), ('mmseg', 'seg')]
)
def test_optional_packages_are_a_note(machine, name, extra):
    machine.errors[name] = missing(name)
    problems, can_run = machine.check()
    assert can_run
    assert problems[name].remedy == f"{CONSTRAINED} -e '.[{extra}]'"


def test_a_dependency_is_missing(machine):
    machine.errors['pixcon_mm'] = missing('tensorboard')
    problems, can_run = machine.check()
    assert not can_run
    assert problems['pixcon_mm'].remedy == INSTALL
    assert "No module named 'tensorboard'" in problems['pixcon_mm'].problem


def test_torch_is_too_old(machine):
    machine.versions.update(torch='2.3.1', torchvision='0.18.1')
    problems, can_run = machine.check()
    assert not can_run
    assert list(problems) == ['torch']
    assert problems['torch'].remedy == f'{CONSTRAINED} torch torchvision'


@pytest.mark.parametrize(
    ('torch', 'torchvision', 'wanted'),
    [
        ('2.5.1', '0.20.1', None),
        ('2.10.0+cpu', '0.25.0', None),
        ('2.11.0+cu130', '0.25.0', '0.26'),
        ('2.5.1', '0.26.0+cu130', '0.20'),
    ],
)
def test_torch_and_torchvision_pair(machine, torch, torchvision, wanted):
    machine.versions.update(torch=torch, torchvision=torchvision)
    # The import fails without naming the cause.
    if wanted:
        machine.errors['torchvision'] = RuntimeError(
            'operator torchvision::nms does not exist'
        )
    problems, can_run = machine.check()
    assert can_run == (wanted is None)
    if wanted:
        base = torch.split('+')[0]
        assert problems['torchvision'].remedy == (
            f"pip install 'torch=={base}' 'torchvision=={wanted}.*'"
        )
        assert f'wants {wanted}' in problems['torchvision'].problem


@pytest.mark.parametrize(
    ('name', 'error', 'remedy'),
    [
        (
            'cv2',
            'libGL.so.1: cannot open shared object file: No such file',
            HEADLESS,
        ),
        (
            'cv2',
            'libgthread-2.0.so.0: cannot open shared object file',
            HEADLESS,
        ),
        ('mmcv', 'libGL.so.1: cannot open shared object file', HEADLESS),
        (
            'cv2',
            'numpy.core.multiarray failed to import',
            f'{CONSTRAINED} --force-reinstall numpy opencv-python-headless',
        ),
        (
            'torchvision',
            'libcudart.so.13: cannot open shared object file',
            TORCH,
        ),
        ('torch', 'libcudnn.so.9: cannot open shared object file', TORCH),
        ('mmcv', "cannot import name 'Config' from 'mmengine'", SWAP_ALL),
    ],
)
def test_a_package_does_not_import(machine, name, error, remedy):
    machine.errors[name] = ImportError(error)
    problems, can_run = machine.check()
    assert not can_run
    assert list(problems) == [name]
    assert problems[name].remedy == remedy
    assert problems[name].problem == f'does not import: ImportError: {error}'


def test_lines_of_openmmlab_are_mixed(machine):
    machine.errors['mmpretrain'] = AssertionError(
        'MMCV==2.3.6 is used but incompatible.\nInstall mmcv<2.2.\n'
    )
    problems, can_run = machine.check()
    assert not can_run
    assert problems['mmpretrain'].remedy == SWAP_ALL
    assert problems['mmpretrain'].problem == (
        'does not import: AssertionError: Install mmcv<2.2.'
    )


def test_an_optional_package_of_the_other_line(machine):
    machine.errors['mmdet'] = AssertionError('MMCV==2.3.6 is incompatible')
    problems, can_run = machine.check()
    assert can_run
    assert problems['mmdet'].remedy == (
        f'pip uninstall -y mmdet && {CONSTRAINED} --force-reinstall '
        '--no-deps onedl-mmdetection'
    )


@pytest.mark.parametrize(
    ('mmengine', 'torch', 'source', 'good'),
    [
        ('0.10.7', '2.6.0', 'torch.load(file)', False),
        ('0.10.7', '2.5.1', 'torch.load(file)', True),
        ('0.10.7', '2.6.0', 'torch.load(file, weights_only=False)', True),
        ('0.10.8', '2.6.0', 'torch.load(file)', True),
    ],
)
def test_mmengine_cannot_load_checkpoints(
    machine, mmengine, torch, source, good
):
    machine.versions['mmengine'] = mmengine
    machine.versions['torch'] = torch
    machine.versions['torchvision'] = f'0.{int(torch.split(".")[1]) + 15}'
    machine.source = source
    problems, can_run = machine.check()
    assert can_run == good
    if not good:
        assert problems['mmengine'].remedy == SWAP_MMENGINE


def test_pkg_resources_is_gone(machine):
    machine.source = 'def is_installed(name):\n    import pkg_resources\n'
    assert machine.check() == ({}, True)
    machine.has_pkg_resources = False
    problems, can_run = machine.check()
    assert not can_run
    assert problems['mmengine'].remedy == "pip install 'setuptools<82'"


def test_pkg_resources_is_imported_at_once(machine):
    machine.errors['mmcv'] = missing('pkg_resources')
    problems, _ = machine.check()
    assert problems['mmcv'].remedy == "pip install 'setuptools<82'"


def test_compiled_ops_do_not_matter(machine):
    machine.errors['mmcv._ext'] = missing('mmcv._ext')
    assert machine.check() == ({}, True)
    machine.errors['mmcv._ext'] = ImportError('undefined symbol: _ZN3c10')
    problems, can_run = machine.check()
    assert can_run
    assert problems['mmcv._ext'].remedy == (
        f'pip uninstall -y mmcv mmcv-lite && {CONSTRAINED} '
        '--force-reinstall --no-deps onedl-mmcv'
    )


def test_what_stands_in_for_compiled_ops_is_named():
    absent = Probe('mmcv._ext', error=missing('mmcv._ext'))
    (found,) = check_env.check_compiled_ops(absent)
    assert 'nms and roi_align stand in' in found.found
    assert (found.problem, found.needed) == ('', False)
    (found,) = check_env.check_compiled_ops(Probe('mmcv._ext'))
    assert found.found == 'compiled'


def test_no_working_driver_is_a_note(machine):
    machine.gpus = []
    problems, can_run = machine.check()
    assert can_run
    assert 'CUDA 13.0' in problems['GPU'].problem
    assert problems['GPU'].remedy.startswith('nvidia-smi ')


def test_cpu_build_beside_a_driver_is_a_note(machine):
    machine.gpus, machine.cuda = [], None
    problems, can_run = machine.check()
    assert can_run
    assert problems['GPU'].remedy == TORCH
    machine.has_driver = False
    assert machine.check() == ({}, True)


def test_gpus_are_listed_with_their_memory():
    found = check_env.check_gpu('13.0', [('A', 2**34), ('B', 2**33)], True)
    assert [(f.name, f.found) for f in found] == [
        ('CUDA build', '13.0'),
        ('GPU 0', 'A, 16.0 GiB'),
        ('GPU 1', 'B, 8.0 GiB'),
    ]


def test_little_shared_memory_is_a_note(machine):
    machine.shm = 64 * 2**20
    problems, can_run = machine.check()
    assert can_run
    assert '--shm-size=8g' in problems['/dev/shm'].remedy
    assert problems['/dev/shm'].found == '0.062 GiB'


def test_report_says_a_command_once():
    findings = [
        Finding('torch', '2.11.0'),
        Finding('mmcv', 'not installed', 'is not installed', INSTALL),
        Finding('cv2', 'not installed', 'is not installed', INSTALL),
        Finding('mmdet', '1', 'is old', 'pip uninstall -y mmdet', False),
    ]
    lines = [text for text, _ in check_env.report(findings, 'py -m pip')]
    assert lines[4:11] == [
        '',
        'Problem: mmcv is not installed',
        'Problem: cv2 is not installed',
        f'    py -m {INSTALL}',
        '',
        'Note: mmdet is old',
        '    py -m pip uninstall -y mmdet',
    ]
    assert lines[-1] == 'Pre-training cannot run yet.'
    lines = check_env.report(findings[:1] + findings[3:])
    said = 'Pre-training can run, detection and segmentation cannot yet.'
    assert lines[-1][0] == said
    lines = check_env.report(findings[:1])
    said = 'Pre-training, detection and segmentation can run.'
    assert lines[-1][0] == said


def test_brackets_survive_rich(capsys):
    check_env.show([(f'{INSTALL} {"x" * 200}', 'red')])
    assert f'{INSTALL} {"x" * 200}\n' in capsys.readouterr().out


def test_probe_keeps_quiet_and_keeps_the_error(tmp_path, monkeypatch, capfd):
    (tmp_path / 'noisy_pkg.py').write_text(
        'import logging, warnings\n'
        'print("noise"); warnings.warn("noise"); logging.error("noise")\n'
        '__version__ = "1.2"\n'
    )
    (tmp_path / 'broken_pkg.py').write_text('import noisy_pkg\n1 / 0\n')
    monkeypatch.syspath_prepend(tmp_path)
    filters, disabled = list(warnings.filters), logging.root.manager.disable
    noisy, broken = map(check_env.probe, ('noisy_pkg', 'broken_pkg'))
    assert (noisy.version, noisy.error) == ('1.2', None)
    assert isinstance(broken.error, ZeroDivisionError)
    assert check_env.probe('absent_pkg').is_absent
    assert capfd.readouterr() == ('', '')
    assert list(warnings.filters) == filters
    assert logging.root.manager.disable == disabled


def test_source_of_reads_the_installed_mmengine():
    import mmengine

    text = check_env.source_of(
        mmengine, 'runner/checkpoint.py', 'no/such_file.py'
    )
    assert 'def load_checkpoint' in text
    assert check_env.source_of(None, 'runner/checkpoint.py') == ''


def run(*options, cwd):
    return subprocess.run(
        [sys.executable, *options, TOOL],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_this_environment_can_pretrain(tmp_path):
    done = run(cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, '')
    lines = done.stdout.splitlines()
    said = 'Pre-training, detection and segmentation can run.'
    assert lines[-1] == said
    import mmcv
    import torch

    assert ['torch', torch.__version__] in [line.split() for line in lines]

    # Not by find_spec, which finds what stands in for it here.
    is_compiled = PathFinder.find_spec('mmcv._ext', mmcv.__path__) is not None
    (ops,) = (line for line in lines if line.startswith('mmcv._ext '))
    assert ('not compiled' in ops) != is_compiled


def test_runs_where_nothing_is_installed(tmp_path):
    done = run('-I', '-S', cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, '')
    assert 'Problem: torch is not installed' in done.stdout
    assert "install -c requirements/constraints.txt -e '.[openmmlab]'" in (
        done.stdout
    )
    assert f'are to be run in {ROOT}' in done.stdout
