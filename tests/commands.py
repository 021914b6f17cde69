"""Commands as users give them, in a process of their own or in this one."""

import importlib.util
import os
import subprocess
import sys
from types import ModuleType

from tests import ROOT


def run(
    *command, cwd=ROOT, timeout=240, **env
) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own, with this interpreter.

    Args:
        *command: Words. A file of Python code is run by this interpreter.
        cwd (Path): Where it runs.
        timeout (float): Seconds.
        **env: Changes of the environment.
    """
    words = [str(word) for word in command]
    if words[0].endswith('.py'):
        words.insert(0, sys.executable)
    ours = dict(
        OMP_NUM_THREADS='1', PYTHON=sys.executable, PYTHONPATH=str(ROOT)
    )
    return subprocess.run(
        words,
        cwd=cwd,
        env={**os.environ, **ours, **env},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def load_tool(name: str) -> ModuleType:
    """Import a file of tools/, whose name may be that of a package."""
    path = ROOT / 'tools' / f'{name}.py'
    spec = importlib.util.spec_from_file_location(f'tools_{name}', path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module
