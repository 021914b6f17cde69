#!/usr/bin/env python
"""Show what is installed, what works, and the command for what does not.

Exits with 0 if pre-training can run, and with 1 otherwise. Needs nothing
but Python itself.
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
# Run in another process: an import may print, warn or end its process.
PROBE = """
import importlib, json, sys
for name in sys.argv[1:]:
    found = dict(name=name, version='', error='')
    try:
        module = importlib.import_module(name)
        compiler = getattr(module, 'get_compiler_version', str)
        found['version'] = str(getattr(module, '__version__', compiler()))
        if name == 'mmengine':  # imports pkg_resources in there
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
# Two lines of packages write the same files: one has to go first.
SWAP = (
    'pip uninstall -y mmengine mmcv mmcv-lite mmpretrain mmdet mmsegmentation '
    f'&& {PIP} --force-reinstall --no-deps onedl-mmengine onedl-mmcv '
    'onedl-mmpretrain onedl-mmdetection onedl-mmsegmentation'
)
# Commands by the text of an error, and else by the package.
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
    """Import packages in a process of their own; return findings by name."""
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', PROBE, *names],
        capture_output=True,
        text=True,
        cwd='/',  # not to find the package that is not installed
    )
    lines = re.findall('^PROBE(.+)$', done.stdout, flags=re.M)
    found = {one['name']: one for one in map(json.loads, lines)}
    crashed = dict(version='', error='importing it ends Python')
    return {name: found.get(name, crashed) for name in names}


def remedy(name: str, error: str) -> str:
    """Return the command that helps when a package does not import."""
    for pattern, command in BY_ERROR.items():
        if re.search(pattern, error):
            return command
    return BY_PACKAGE.get(name, SWAP if name.startswith('mm') else INSTALL)


def release(version: str) -> tuple:
    """Return the numbers of a version: '2.11.0+cu128' gives (2, 11, 0)."""
    return tuple(map(int, re.findall(r'\d+', version.split('+')[0])[:3]))


def problems(found: dict, python: tuple, driver: bool) -> dict:
    """Return a sentence and a command for whatever is wrong, by name.

    Args:
        found (dict): As :func:`probe` returns it.
        python (tuple): Version of Python.
        driver (bool): NVIDIA's driver is installed.
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
    ours, theirs = release(number), release(vision['version'])
    fits = ours[:1] != (2,) or theirs[:2] == (0, ours[1] + 15)
    if ours and ours < (2, 5):
        wrong['torch'] = 'is older than 2.5', f'{PIP} torch torchvision'
    elif not fits and 'No module' not in vision['error']:
        # The import of a wrong pair fails without naming the cause.
        wanted = f'0.{ours[1] + 15}.*'
        command = f"pip install 'torch=={number}' 'torchvision=={wanted}'"
        sentence = f'does not fit torch {number}, which needs {wanted}'
        wrong['torchvision'] = sentence, command
    if driver and ours and not torch['cuda']:
        wrong['GPU'] = 'is there, but PyTorch is built for the CPU', TORCH
    elif ours and torch['cuda'] and not torch['gpus']:
        sentence = 'is missing or its driver too old: training uses the CPU'
        wrong['GPU'] = sentence, 'nvidia-smi  # shows GPU and driver'
    return wrong


def main() -> int:
    """Report; return the exit status."""
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
    works = 'cannot yet' if {*wrong} & {*TRANSFER} else 'can run, too'
    print(f'\nPre-training can run; detection and segmentation {works}.')
    return 0


if __name__ == '__main__':
    sys.exit(main())
