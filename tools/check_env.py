#!/usr/bin/env python
"""Print what is installed and, for whatever does not work, the remedy.

Needs nothing but Python. Exit code 0 means that pre-training can run.
"""

import importlib
import logging
import os
import re
import shutil
import sys
import warnings
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

INSTALL = 'pip install -c requirements/constraints.txt -e ".[{}]"'
HEADLESS = (
    'pip install --force-reinstall --no-deps '
    '-c requirements/constraints.txt opencv-python-headless'
)
# Distribution that has the version, by module; extra that installs it.
MODULES = {
    'torch': 'openmmlab',
    'torchvision': 'openmmlab',
    'numpy': 'openmmlab',
    'cv2': 'openmmlab',
    'mmengine': 'openmmlab',
    'mmcv': 'openmmlab',
    'mmpretrain': 'openmmlab',
    'mmdet': 'det',
    'mmseg': 'seg',
}
OPTIONAL = ('mmdet', 'mmseg')


@dataclass
class Finding:
    """One line of the report.

    Attributes:
        name (str): What was looked at.
        found (str): Its version or state.
        problem (str): What is wrong with it, if anything.
        remedy (str): The command or step that mends it.
        needed (bool): Whether pre-training cannot run without.
    """

    name: str
    found: str
    problem: str = ''
    remedy: str = ''
    needed: bool = True

    @property
    def fails(self) -> bool:
        """Whether pre-training cannot run because of this."""
        return bool(self.problem) and self.needed


def release(version: str) -> tuple[int, ...]:
    """Leading numbers of a version.

    Example:
        >>> release('2.11.0+cu130')
        (2, 11, 0)
    """
    match = re.match(r'\d+(\.\d+)*', version)
    return tuple(map(int, match[0].split('.'))) if match else (0,)


def check_python(version: tuple = sys.version_info) -> Finding:
    """Python 3.10 to 3.12."""
    found = '.'.join(map(str, version[:3]))
    if (3, 10) <= tuple(version[:2]) <= (3, 12):
        return Finding('Python', found)
    return Finding(
        'Python',
        found,
        'only 3.10 to 3.12 are supported',
        'make test PYTHON=/path/to/python3.12',
    )


def check_module(name: str, load=importlib.import_module) -> Finding:
    """Whether a module imports; its version."""
    needed = name not in OPTIONAL
    install = INSTALL.format(MODULES[name])
    try:
        module = load(name)
    except ModuleNotFoundError as error:
        missing = (error.name or name).split('.')[0]
        if missing == 'pkg_resources':
            return Finding(
                name,
                'does not import',
                'it needs pkg_resources, which setuptools 82 removed',
                'pip install "setuptools<82"',
                needed,
            )
        if missing == name:
            return Finding(name, '-', 'not installed', install, needed)
        problem = f'it needs {error.name}, which is missing'
        return Finding(name, 'does not import', problem, install, needed)
    except Exception as error:
        reason = (str(error).strip().splitlines() or [repr(error)])[-1]
        no_library = re.search(r'lib(GL|glib|gthread)\S*\.so', reason)
        remedy = HEADLESS if name == 'cv2' and no_library else install
        return Finding(name, 'does not import', reason, remedy, needed)
    return Finding(name, getattr(module, '__version__', '?'), needed=needed)


def check_pairs(versions: dict[str, str]) -> list[Finding]:
    """Versions that import, but not together.

    Args:
        versions (dict[str, str]): By module.
    """
    found = []
    torch = release(versions.get('torch', '0'))
    vision = release(versions.get('torchvision', '0'))
    engine = release(versions.get('mmengine', '0'))
    pair = f'torch {versions.get("torch")}'
    if (0,) < torch < (2, 4):
        found.append(
            Finding(
                'torch',
                versions['torch'],
                'older than 2.4',
                INSTALL.format('openmmlab'),
            )
        )
    if torch[0] == 2 and vision > (0,) and vision[1] != torch[1] + 15:
        found.append(
            Finding(
                'torch + torchvision',
                f'{pair}, torchvision {versions["torchvision"]}',
                'these two builds do not belong together',
                f'pip install "torchvision==0.{torch[1] + 15}.*"',
            )
        )
    if torch >= (2, 6) and (0,) < engine < (0, 10, 8):
        found.append(
            Finding(
                'torch + mmengine',
                f'{pair}, mmengine {versions["mmengine"]}',
                'this mmengine cannot read its own checkpoints',
                f'pip uninstall mmengine && {INSTALL.format("openmmlab")}',
            )
        )
    return found


def check_device() -> Finding:
    """GPUs, or why there are none. Training on CPU is possible."""
    import torch

    if torch.cuda.is_available():
        names = [
            f'{torch.cuda.get_device_name(i)} '
            f'({torch.cuda.get_device_properties(i).total_memory >> 30} GiB)'
            for i in range(torch.cuda.device_count())
        ]
        return Finding('GPU', ', '.join(names))
    if torch.version.cuda and shutil.which('nvidia-smi'):
        return Finding(
            'GPU',
            'none usable',
            f'the driver does not serve CUDA {torch.version.cuda}',
            'update the NVIDIA driver, or install a torch for its CUDA',
            needed=False,
        )
    return Finding('GPU', 'none: training runs on CPU, over gloo')


def check_operators() -> Finding:
    """Mmcv's compiled operators, which pre-training does not use."""
    try:
        importlib.import_module('mmcv._ext')
    except Exception:
        return Finding("mmcv's compiled operators", 'none (not needed)')
    return Finding("mmcv's compiled operators", 'present')


def check_shared_memory(folder: str = '/dev/shm') -> Finding:
    """Room for the loader's workers to hand over batches."""
    if not Path(folder).is_dir():
        return Finding('shared memory', 'no /dev/shm here')
    free = shutil.disk_usage(folder).free / 2**30
    if free >= 1:
        return Finding('shared memory', f'{free:.1f} GiB free')
    return Finding(
        'shared memory',
        f'{free:.2f} GiB free',
        'too little for many workers',
        'docker run --shm-size=8g ..., or '
        '--cfg-options train_dataloader.num_workers=0',
        needed=False,
    )


def check_setuptools() -> Finding:
    """Its version; old packages stop working at 82."""
    try:
        return Finding('setuptools', metadata.version('setuptools'))
    except metadata.PackageNotFoundError:
        return Finding('setuptools', '-')


def survey() -> list[Finding]:
    """All findings."""
    warnings.simplefilter('ignore')
    logging.disable(logging.CRITICAL)
    modules = [check_module(name) for name in MODULES]
    versions = {
        f.name: f.found for f in modules if not f.problem and f.found != '?'
    }
    findings = [check_python(), *modules, *check_pairs(versions)]
    if 'torch' in versions:
        findings.append(check_device())
    if 'mmcv' in versions:
        findings.append(check_operators())
    return [*findings, check_setuptools(), check_shared_memory()]


def main() -> int:
    """Print the report; returns the exit code."""
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
    # mmpretrain's imports print; this report should stand alone.
    with open(os.devnull, 'w') as nowhere:
        stdout, sys.stdout = sys.stdout, nowhere
        try:
            findings = survey()
        finally:
            sys.stdout = stdout
    for finding in findings:
        mark = 'x' if finding.fails else '!' if finding.problem else ' '
        print(f'{mark} {finding.name:26} {finding.found}')
        if finding.problem:
            print(f'    {finding.problem}\n    -> {finding.remedy}')
    if any(finding.fails for finding in findings):
        print('\nPre-training cannot run yet: follow the arrows above.')
        return 1
    print('\nPre-training can run here.')
    return 0


if __name__ == '__main__':
    sys.exit(main())
