#!/usr/bin/env python
"""Check the installation; for each problem, show a command that solves it.

The exit status is 0 if pre-training can run, and 1 otherwise. The script needs
nothing but Python itself.
"""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TRANSFER = ('mmcv.ops', 'mmdet', 'mmseg')  # detection and segmentation
PACKAGES = (
    *('torch', 'torchvision', 'numpy', 'cv2', 'mmengine', 'mmcv'),
    *('mmpretrain', 'pixcon_mm.models', 'pixcon_mm.datasets', *TRANSFER),
)
# This code runs in another process, because an import may print text, warn or
# crash.
PROBE = """
import importlib, json, sys
for name in sys.argv[1:]:
    found = dict(name=name, version='', error='')
    try:
        module = importlib.import_module(name)
        compiler = getattr(module, 'get_compiler_version', str)
        found['version'] = str(getattr(module, '__version__', compiler()))
        if name == 'mmengine':  # imports pkg_resources inside the function
            module.utils.is_installed('numpy')
        if name == 'torch':
            found['cuda'] = module.version.cuda or module.version.hip
            found['gpus'] = module.cuda.device_count()
    except Exception as error:
        found['error'] = f'{type(error).__name__}: {error}'
    print('\\nPROBE' + json.dumps(found), flush=True)
"""
PIP = 'pip install -c requirements/constraints.txt'
INSTALL = f'{PIP} -e .'
TORCH = f'{PIP} --force-reinstall torch torchvision'
HEADLESS = f'{PIP} --force-reinstall --no-deps opencv-python-headless'
# The original and the onedl packages have the same files, so the original ones
# must be removed first.
SWAP = (
    'pip uninstall -y mmengine mmcv mmcv-lite mmpretrain mmdet mmsegmentation '
    f'&& {PIP} --force-reinstall --no-deps onedl-mmengine onedl-mmcv '
    'onedl-mmpretrain onedl-mmdetection onedl-mmsegmentation'
)
# Commands by the text of an error; otherwise by the package.
BY_ERROR = {
    r'lib(GL|gthread|glib|SM|Xext|Xrender)\b': HEADLESS,
    'pkg_resources': "pip install 'setuptools<82'",
    'No module named': INSTALL,
    r'_ARRAY_API|numpy\.(core|dtype)|NumPy 1\.x': (
        f'{PIP} --force-reinstall numpy opencv-python-headless'
    ),
}
BY_PACKAGE = dict(torch=TORCH, torchvision=TORCH, cv2=HEADLESS)


def probe(names: tuple) -> dict:
    """Import packages in another process; return what it found, by name."""
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', PROBE, *names],
        capture_output=True,
        text=True,
        cwd='/',  # else it would find this project without installation
    )
    lines = re.findall('^PROBE(.+)$', done.stdout, flags=re.M)
    found = {one['name']: one for one in map(json.loads, lines)}
    crashed = dict(version='', error='importing it crashes Python')
    return {name: found.get(name, crashed) for name in names}


def remedy(name: str, error: str) -> str:
    """Return the command that helps if the import of a package fails."""
    for pattern, command in BY_ERROR.items():
        if re.search(pattern, error):
            return command
    return BY_PACKAGE.get(name, SWAP if name.startswith('mm') else INSTALL)


def release(version: str) -> tuple:
    """Return the numbers of a version: '2.11.0+cu128' gives (2, 11, 0)."""
    return tuple(map(int, re.findall(r'\d+', version.split('+')[0])[:3]))


def problems(found: dict, python: tuple, driver: bool) -> dict:
    """Return a problem and a command that solves it, by name of the part.

    Args:
        found (dict): Result of :func:`probe`.
        python (tuple): Version of Python.
        driver (bool): True if NVIDIA's driver is installed.
    """
    wrong = {
        name: (f'does not import ({error})', remedy(name, error))
        for name, one in found.items()
        if (error := ' '.join(one['error'].split()))
    }
    if not (3, 10) <= python[:2] <= (3, 12):
        command = 'PYTHON=python3.12 bash tools/install.sh'
        wrong['Python'] = 'is not 3.10, 3.11 or 3.12', command
    torch, vision = found['torch'], found['torchvision']
    number = torch['version'].split('+')[0]
    torch_release = release(number)
    vision_release = release(vision['version'])
    fits = torch_release[:1] != (2,) or (
        vision_release[:2] == (0, torch_release[1] + 15)
    )
    if torch_release and torch_release < (2, 7):
        wrong['torch'] = 'is older than 2.7', f'{PIP} torch torchvision'
    elif not fits and 'No module' not in vision['error']:
        # If the two do not fit, the error of the import does not say so.
        wanted = f'0.{torch_release[1] + 15}.*'
        command = f"pip install 'torch=={number}' 'torchvision=={wanted}'"
        sentence = f'does not fit torch {number}, which needs {wanted}'
        wrong['torchvision'] = sentence, command
    if driver and torch_release and not torch['cuda']:
        wrong['GPU'] = 'exists, but PyTorch is built for the CPU only', TORCH
    elif torch_release and torch['cuda'] and not torch['gpus']:
        sentence = (
            'is missing, or its driver is too old: training uses the CPU'
        )
        wrong['GPU'] = sentence, 'nvidia-smi  # shows GPU and driver'
    return wrong


def main() -> int:
    """Print the report; return the exit status."""
    found = probe(PACKAGES)
    driver = shutil.which('nvidia-smi') is not None
    wrong = problems(found, sys.version_info[:3], driver)
    print(f'{"Python":<19} {sys.version.split()[0]}')
    for name, one in found.items():
        print(f'{name:<19} {one["version"] or "-"}')
    # One command often helps several packages: print it once.
    for command in dict.fromkeys(command for _, command in wrong.values()):
        lines = [f'{n}: {s}' for n, (s, c) in wrong.items() if c == command]
        pip = f'{shlex.quote(sys.executable)} -m pip'
        command = re.sub(r'\bpip (?=(un)?install )', f'{pip} ', command)
        print('', *lines, f'    {command}', sep='\n')
    if wrong:
        print(f'\nRun the commands in {ROOT}')
    if {*wrong} - {*TRANSFER, 'GPU'}:
        print('\nPre-training cannot run yet.')
        return 1
    works = 'cannot yet' if {*wrong} & {*TRANSFER} else 'can run as well'
    print(f'\nPre-training can run; detection and segmentation {works}.')
    return 0


if __name__ == '__main__':
    sys.exit(main())
