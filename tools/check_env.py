#!/usr/bin/env python
"""Say what is installed, and for whatever does not work the mending command.

Exits with 0 when pre-training can run, and with 1 otherwise. Needs nothing
but Python itself.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import logging
import re
import shlex
import shutil
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
PIP = 'pip install -c requirements/constraints.txt'
INSTALL = f"{PIP} -e '.[openmmlab]'"
HEADLESS = f'{PIP} --force-reinstall --no-deps opencv-python-headless'
NUMPY = f'{PIP} --force-reinstall numpy opencv-python-headless'
SETUPTOOLS = "pip install 'setuptools<82'"
TORCH = f'{PIP} --force-reinstall torch torchvision'
NEWER_TORCH = f'{PIP} torch torchvision'
NEW_ENVIRONMENT = 'PYTHON=python3.12 bash tools/install.sh'
DRIVER = 'nvidia-smi  # shows the newest CUDA that your driver allows'
MORE_SHM = (
    'docker run --shm-size=8g ...  # or fewer workers: --cfg-options '
    'train_dataloader.num_workers=1'
)

REINSTALL = dict(torch=TORCH, torchvision=TORCH, cv2=HEADLESS, numpy=NUMPY)
EXTRAS = {'mmdet': 'det', 'mmseg': 'seg'}
# Detection and segmentation need these, pre-training does not.
TRANSFER = ('mmcv.ops', 'mmdet', 'mmseg')
# Two lines of packages bring the same modules, and write the same files:
# those of one line have to go before those of the other come.
DISTRIBUTIONS = {
    'mmengine': ('onedl-mmengine', 'mmengine'),
    'mmcv': ('onedl-mmcv', 'mmcv', 'mmcv-lite'),
    'mmpretrain': ('onedl-mmpretrain', 'mmpretrain'),
    'mmdet': ('onedl-mmdetection', 'mmdet'),
    'mmseg': ('onedl-mmsegmentation', 'mmsegmentation'),
    'cv2': ('opencv-python-headless', 'opencv-python'),
}


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        name (str): What was looked at.
        found (str): Its version or state.
        problem (str): What is wrong with it, if anything.
        remedy (str): The command that mends it.
        needed (bool): Whether pre-training cannot run without it.
    """

    name: str
    found: str
    problem: str = ''
    remedy: str = ''
    needed: bool = True


@dataclass(frozen=True)
class Probe:
    """What came of importing a module.

    Attributes:
        name (str): Name of the module.
        version (str): Its version, empty if there is none to be found.
        error (Exception | None): Why it does not import.
        module (ModuleType | None): The module, if it does.
    """

    name: str
    version: str = ''
    error: Exception | None = None
    module: ModuleType | None = None

    @property
    def is_absent(self) -> bool:
        """Whether the module itself is missing, not one that it imports."""
        error = self.error
        return isinstance(error, ModuleNotFoundError) and (
            error.name == self.name
        )


def release(version: str) -> tuple[int, ...]:
    """The numbers of a version.

    Example:
        >>> release('2.11.0+cu128')
        (2, 11, 0)
    """
    return tuple(map(int, re.findall(r'\d+', version.split('+')[0])[:3]))


def swap(*modules: str) -> str:
    """Command that brings the tested packages of some OpenMMLab modules."""
    groups = [DISTRIBUTIONS[module] for module in modules]
    old = ' '.join(name for group in groups for name in group[1:])
    new = ' '.join(group[0] for group in groups)
    return f'pip uninstall -y {old} && {PIP} --force-reinstall --no-deps {new}'


def last_line(error: Exception) -> str:
    """Kind of an error and the last line of what it says."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return ': '.join([type(error).__name__, *lines[-1:]])


def remedy_for(name: str, error: Exception) -> str:
    """Command that mends a module which does not import."""
    text = str(error)
    if re.search(r'lib(GL|gthread|glib|SM|Xext|Xrender)\b', text):
        return HEADLESS
    if 'pkg_resources' in text:
        return SETUPTOOLS
    if isinstance(error, ModuleNotFoundError):
        return f"{PIP} -e '.[{EXTRAS.get(name, 'openmmlab')}]'"
    if re.search(r'_ARRAY_API|numpy\.(core|dtype)|NumPy 1\.x', text):
        return NUMPY
    if name in EXTRAS or name == 'mmcv._ext':
        return swap(name.split('.')[0])
    if name in ('mmengine', 'mmcv', 'mmpretrain'):
        return swap('mmengine', 'mmcv', 'mmpretrain')
    return REINSTALL.get(name, INSTALL)


def check_python(version: tuple[int, ...]) -> list[Finding]:
    """Is this a Python that the tested versions exist for?"""
    found = Finding('Python', '.'.join(map(str, version)))
    if (3, 10) <= version[:2] <= (3, 12):
        return [found]
    problem = 'is not Python 3.10, 3.11 or 3.12'
    return [replace(found, problem=problem, remedy=NEW_ENVIRONMENT)]


def check_package(package: Probe) -> list[Finding]:
    """Does a package import?"""
    name, version, error = package.name, package.version, package.error
    found = Finding(name, version or 'found', needed=name not in EXTRAS)
    if error is None:
        return [found]
    problem = f'does not import: {last_line(error)}'
    if package.is_absent:
        found = replace(found, found='not installed')
        problem = 'is not installed'
    return [replace(found, problem=problem, remedy=remedy_for(name, error))]


def check_torch(torch: Probe) -> list[Finding]:
    """Does PyTorch import, and is it new enough?"""
    (found,) = check_package(torch)
    if found.problem or release(torch.version) >= (2, 5):
        return [found]
    return [replace(found, problem='is older than 2.5', remedy=NEWER_TORCH)]


def check_torchvision(torchvision: Probe, torch: Probe) -> list[Finding]:
    """Do torchvision and PyTorch belong together?

    A pair that does not fit often fails to import, with an error that tells
    less than the versions do.
    """
    (found,) = check_package(torchvision)
    left, right = release(torch.version), release(torchvision.version)
    if left[:1] != (2,) or not right or right[:2] == (0, left[1] + 15):
        return [found]
    base, wanted = torch.version.split('+')[0], f'0.{left[1] + 15}'
    problem = f'does not go with torch {base}, which wants {wanted}'
    remedy = f"pip install 'torch=={base}' 'torchvision=={wanted}.*'"
    if left < (2, 5):
        remedy = NEWER_TORCH
    return [replace(found, problem=problem, remedy=remedy)]


def check_mmengine(
    mmengine: Probe, torch: Probe, source: str, has_pkg_resources: bool
) -> list[Finding]:
    """Does MMEngine import, and do later calls work?

    Args:
        mmengine (Probe): MMEngine.
        torch (Probe): PyTorch.
        source (str): What MMEngine's loading of checkpoints and handling of
            packages read like.
        has_pkg_resources (bool): Whether ``pkg_resources`` can be imported.
    """
    (found,) = check_package(mmengine)
    if found.problem:
        return [found]
    # Its checkpoints hold more than tensors, which 2.6 refuses unless told.
    is_old = release(mmengine.version) < (0, 10, 8)
    if (
        is_old
        and release(torch.version) >= (2, 6)
        and 'weights_only' not in source
    ):
        problem = 'cannot load its own checkpoints with torch 2.6 or later'
        remedy = swap('mmengine')
    elif 'import pkg_resources' in source and not has_pkg_resources:
        problem = 'wants pkg_resources, which setuptools lacks from 82 on'
        remedy = SETUPTOOLS
    else:
        return [found]
    return [replace(found, problem=problem, remedy=remedy)]


def check_compiled_ops(ops: Probe) -> list[Finding]:
    """Mention mmcv's compiled operators, for which torchvision stands in."""
    if ops.error is None:
        return [Finding('mmcv._ext', 'compiled', needed=False)]
    if ops.is_absent:
        state = (
            "not compiled: torchvision's nms and roi_align stand in "
            '(pre-training needs neither, detection and segmentation no '
            'others)'
        )
        return [Finding('mmcv._ext', state, needed=False)]
    return [replace(check_package(ops)[0], needed=False)]


def check_gpu(
    cuda: str | None, gpus: list[tuple[str, int]], has_driver: bool
) -> list[Finding]:
    """Can PyTorch use the GPUs of this machine, if it has any?

    Args:
        cuda (str | None): CUDA (or ROCm) version of the build of PyTorch.
        gpus (list[tuple[str, int]]): Names and bytes of usable GPUs.
        has_driver (bool): Whether a driver of NVIDIA is installed.
    """
    findings = [Finding('CUDA build', cuda or 'none', needed=False)]
    for index, (name, size) in enumerate(gpus):
        text = f'{name}, {size / 2**30:.1f} GiB'
        findings.append(Finding(f'GPU {index}', text, needed=False))
    none = Finding('GPU', 'none', needed=False)
    if not gpus and cuda:
        problem = (
            f'PyTorch is built for CUDA {cuda} but finds no GPU with a '
            'working driver, so training would run on the CPU'
        )
        findings.append(replace(none, problem=problem, remedy=DRIVER))
    elif not gpus and has_driver:
        problem = 'there is a driver, but PyTorch is built for the CPU only'
        findings.append(replace(none, problem=problem, remedy=TORCH))
    elif not gpus:
        findings.append(none)
    return findings


def check_shared_memory(size: int | None) -> list[Finding]:
    """Is there room for the batches that loader workers hand over?"""
    if size is None:
        return []
    found = Finding('/dev/shm', f'{size / 2**30:.2g} GiB', needed=False)
    if size >= 2**30:
        return [found]
    problem = 'has less than 1 GiB for the batches of the loader workers'
    return [replace(found, problem=problem, remedy=MORE_SHM)]


@contextlib.contextmanager
def silence() -> Iterator[None]:
    """Keep back what packages have to say while they are imported."""
    before, sink = logging.root.manager.disable, io.StringIO()
    with contextlib.ExitStack() as stack:
        stack.enter_context(warnings.catch_warnings())
        stack.enter_context(contextlib.redirect_stdout(sink))
        stack.enter_context(contextlib.redirect_stderr(sink))
        stack.callback(logging.disable, before)
        logging.disable(logging.CRITICAL)
        warnings.simplefilter('ignore')
        yield


def probe(name: str, *submodules: str) -> Probe:
    """Import a module, and find out its version however that ends."""
    module = error = None
    try:
        with silence():
            module = importlib.import_module(name)
            for submodule in submodules:
                importlib.import_module(f'{name}.{submodule}')
    except Exception as caught:
        error = caught
    version = getattr(module, '__version__', '')
    for distribution in DISTRIBUTIONS.get(name, (name,)):
        with contextlib.suppress(metadata.PackageNotFoundError):
            version = version or metadata.version(distribution)
    return Probe(name, str(version), error, module)


def source_of(package: ModuleType | None, *files: str) -> str:
    """Text of some files of a package, as far as it has them."""
    origin = getattr(package, '__file__', None)
    paths = [Path(origin).parent / file for file in files] if origin else []
    return '\n'.join(p.read_text('utf-8') for p in paths if p.is_file())


def usable_gpus(torch: ModuleType) -> list[tuple[str, int]]:
    """Names and bytes of the GPUs that PyTorch can use."""
    try:
        with silence():
            indices = range(torch.cuda.device_count())
            gpus = [torch.cuda.get_device_properties(i) for i in indices]
    except (RuntimeError, AssertionError):
        return []
    return [(gpu.name, gpu.total_memory) for gpu in gpus]


def collect() -> list[Finding]:
    """Look at everything."""
    findings = check_python(tuple(sys.version_info[:3]))
    torch = probe('torch')
    findings += check_torch(torch)
    findings += check_torchvision(probe('torchvision'), torch)
    if torch.module is not None:
        build = torch.module.version
        cuda = build.cuda or getattr(build, 'hip', None)
        has_driver = shutil.which('nvidia-smi') is not None
        findings += check_gpu(cuda, usable_gpus(torch.module), has_driver)
    shm = Path('/dev/shm')
    findings += check_shared_memory(
        shutil.disk_usage(shm).total if shm.is_dir() else None
    )
    for name in ('numpy', 'cv2'):
        findings += check_package(probe(name))
    # Its absence matters only to what imports pkg_resources.
    setuptools = probe('setuptools').version or 'not installed'
    findings.append(Finding('setuptools', setuptools, needed=False))
    mmengine = probe('mmengine')
    source = source_of(
        mmengine.module, 'runner/checkpoint.py', 'utils/package_utils.py'
    )
    has_pkg_resources = find_spec('pkg_resources') is not None
    findings += check_mmengine(mmengine, torch, source, has_pkg_resources)
    mmcv = probe('mmcv')
    findings += check_package(mmcv)
    # Before pixcon_mm, which may stand in for it.
    if mmcv.module is not None:
        findings += check_compiled_ops(probe('mmcv._ext'))
    findings += check_package(probe('mmpretrain'))
    sys.path.insert(0, str(ROOT))
    findings += check_package(probe('pixcon_mm', 'models', 'datasets'))
    # With the stand-in that pixcon_mm brings along, if there is need of it.
    for name in TRANSFER:
        if name == 'mmcv.ops' and mmcv.module is None:
            continue
        (found,) = check_package(probe(*name.split('.')))
        findings.append(replace(found, name=name, needed=False))
    return findings


def can_pretrain(findings: list[Finding]) -> bool:
    """Whether nothing that is needed has a problem."""
    return not any(f.problem and f.needed for f in findings)


def can_transfer(findings: list[Finding]) -> bool:
    """Whether detection and segmentation can run, too."""
    return not any(f.problem and f.name in TRANSFER for f in findings)


def report(findings: list[Finding], pip: str = 'pip') -> list[tuple[str, str]]:
    """Lines of the report, each with its colour.

    Args:
        findings (list[Finding]): All that was found.
        pip (str): How to call the pip of this Python.
    """
    width = max(len(f.name) for f in findings)
    lines = [(f'{f.name:<{width}}  {f.found}', '') for f in findings]
    problems = [f for f in findings if f.problem]
    # One command often mends several things: say it once.
    for remedy in dict.fromkeys(f.remedy for f in problems):
        lines.append(('', ''))
        for f in problems:
            if f.remedy == remedy:
                kind, colour = (
                    ('Problem', 'red') if f.needed else ('Note', 'yellow')
                )
                lines.append((f'{kind}: {f.name} {f.problem}', colour))
        for verb in ('install', 'uninstall'):
            remedy = remedy.replace(f'pip {verb}', f'{pip} {verb}')
        lines.append((f'    {remedy}', 'bold'))
    lines.append(('', ''))
    if problems and Path.cwd() != ROOT:
        lines.append((f'The commands are to be run in {ROOT}', ''))
    if not can_pretrain(findings):
        return [*lines, ('Pre-training cannot run yet.', 'red')]
    if not can_transfer(findings):
        line = 'Pre-training can run, detection and segmentation cannot yet.'
        return [*lines, (line, 'yellow')]
    line = 'Pre-training, detection and segmentation can run.'
    return [*lines, (line, 'green')]


def own_pip() -> str:
    """How to call the pip of this Python from a shell."""
    found = shutil.which('pip')
    if found and Path(found).parent == Path(sys.executable).parent:
        return 'pip'
    return f'{shlex.quote(sys.executable)} -m pip'


def show(lines: list[tuple[str, str]]) -> None:
    """Print lines, in colour where rich is installed."""
    try:
        from rich.console import Console
    except ImportError:
        for text, _ in lines:
            print(text)
        return
    # No markup: rich would take '.[openmmlab]' for it.
    console = Console(markup=False, highlight=False, soft_wrap=True)
    for text, colour in lines:
        console.print(text, style=colour or None)


def main() -> int:
    """Report; the exit code says whether pre-training can run."""
    findings = collect()
    show(report(findings, own_pip()))
    return 0 if can_pretrain(findings) else 1


if __name__ == '__main__':
    sys.exit(main())
