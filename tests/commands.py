"""Commands as users give them, the files around them, and what they say."""

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from pixcon_mm.errors import UserError
from tests import ROOT

# Shell that shows the words that it is called with.
SHOW_WORDS = 'printf "%s\\n" "$@"'


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
    paths = [str(ROOT), os.environ.get('PYTHONPATH')]
    ours = dict(
        OMP_NUM_THREADS='1',
        PYTHON=sys.executable,
        PYTHONPATH=os.pathsep.join(filter(None, paths)),
    )
    return subprocess.run(
        words,
        cwd=cwd,
        env={**os.environ, **ours, **env},
        capture_output=True,
        text=True,
        timeout=timeout,
    )


def sentence_of(call, *words, **options) -> str:
    """Return the sentence of the user's mistake that ends a call."""
    with pytest.raises(UserError) as caught:
        call(*words, **options)
    return str(caught.value)


def wait_until(condition: Callable[[], bool], seconds: float = 30) -> None:
    """Poll until a condition holds; fail after some seconds."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f'gave up after {seconds} s'
        time.sleep(0.01)


def touch(folder: Path, *paths: str) -> Path:
    """Make empty files below a folder; return the folder."""
    for path in paths:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).touch()
    return folder


def executable(path: Path, text: str) -> Path:
    """Write a stand-in for a program, in shell unless it says otherwise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text if text.startswith('#!') else f'#!/bin/sh\n{text}\n')
    path.chmod(0o755)
    return path


def write_scalars(work_dir: Path, records: list[dict], stamp='1') -> Path:
    """Write the records of a run as MMEngine logs them; return the file."""
    path = work_dir / stamp / 'vis_data/scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text(''.join(f'{json.dumps(record)}\n' for record in records))
    return path


def scalars(work_dir: Path) -> list[dict]:
    """Read the records that the runs of a work directory have logged."""
    return [
        json.loads(line)
        for path in sorted(work_dir.glob('*/vis_data/scalars.json'))
        for line in path.read_text().splitlines()
    ]


def load_tool(name: str, folder: str = 'tools') -> ModuleType:
    """Import a file of a folder, whose name may be that of a package.

    It may import files beside it, as when it is run.
    """
    path = ROOT / folder / f'{name}.py'
    spec = importlib.util.spec_from_file_location(f'tools_{name}', path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(path.parent)
        spec.loader.exec_module(module)
    return module
