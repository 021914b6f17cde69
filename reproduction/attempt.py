"""One attempt at a run: start the tool, watch it, write down what it took."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

import pixcon_mm
from pixcon_mm.errors import UserError
from pixcon_mm.processes import STOPPED
from pixcon_mm.visualization.curves import read_records, summarize
from reproduction.command import OUTCOME
from reproduction.folder import DamagedError, Folder, describe_file
from reproduction.runs import Run
from reproduction.settings import settings_of

HEARTBEAT = 10.0  # seconds between two notes of the time so far
POLL = 0.2  # seconds


def attempt(
    run: Run,
    folder: Folder,
    line: list[str],
    devices: int,
    lock: int,
    start_sha256: str | None,
    watch: Callable[[str], None] = lambda _: None,
) -> str | None:
    """Run a command to its end; keep the time it took, however it ends.

    Args:
        run (Run): What it is for.
        folder (Folder): Its files; locked.
        line (list[str]): The command.
        devices (int): How many it uses.
        lock (int): Descriptor of the lock, which the command inherits.
        start_sha256 (str | None): Of the checkpoint it starts from.
        watch (Callable): Told the last line of the log from time to time.

    Returns:
        str | None: What went wrong, in a sentence; None if nothing.
    """
    asked = dict(settings=settings_of(run), start_sha256=start_sha256)
    folder.write('run.json', asked)
    note = new_note(command=line, devices=devices)
    notes = [*earlier_attempts(folder), note]
    before = folder.log_file.stat().st_size if folder.log_file.exists() else 0
    began = time.monotonic()
    with open(folder.log_file, 'ab') as log:
        child = subprocess.Popen(
            line,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            pass_fds=(lock,),
            env={**os.environ, 'PYTHON': sys.executable},
        )
    try:
        noted = -HEARTBEAT
        while True:
            pid, status, usage = os.wait4(child.pid, os.WNOHANG)
            note['seconds'] = round(time.monotonic() - began, 3)
            if pid:
                break
            if note['seconds'] - noted >= HEARTBEAT:
                noted = note['seconds']
                # A disk that hiccups must not end a training of days.
                with contextlib.suppress(UserError):
                    folder.write('attempts.json', notes)
                watch(folder.last_line(before))
            time.sleep(POLL)
    except BaseException:
        # The command has the lock: it must not stay behind.
        child.send_signal(signal.SIGTERM)
        child.wait()
        note['error'] = 'it was stopped'
        folder.write('attempts.json', notes)
        raise
    child.returncode = note['exit'] = os.waitstatus_to_exitcode(status)
    note['resident_gib'] = round(usage.ru_maxrss / 2**20, 3)
    if note['exit'] == STOPPED:
        note['error'] = 'it was stopped by a signal'
    elif note['exit']:
        note['error'] = failure(folder, before, note['exit'])
    folder.write('attempts.json', notes)
    return note['error']


def new_note(**known: Any) -> dict[str, Any]:
    """What is written down of an attempt; ``exit`` None until it ends."""
    blank = dict(
        command=[],
        started=datetime.datetime.now().isoformat(timespec='seconds'),
        seconds=0.0,
        devices=1,
        device=device_name(),
        host=socket.gethostname(),
        version=pixcon_mm.__version__,
        exit=None,
        error=None,
        resident_gib=None,
    )
    return {**blank, **known}


def note_failure(folder: Folder, error: str) -> None:
    """Write down that a run failed before or after its command."""
    notes = earlier_attempts(folder)
    folder.write('attempts.json', [*notes, new_note(exit=1, error=error)])


def earlier_attempts(folder: Folder) -> list[dict[str, Any]]:
    """Notes of the attempts so far; none if their file is damaged."""
    try:
        return folder.read('attempts.json') or []
    except DamagedError:
        return []


def device_name() -> str:
    """Of what the runs of this machine compute on."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name(0)
    return 'CPU'


def failure(folder: Folder, offset: int, code: int) -> str:
    """Why a command failed, in its own words as far as there are any."""
    with open(folder.log_file, 'rb') as file:
        file.seek(offset)
        lines = file.read().decode(errors='replace').split('\n')
    said = [x for x in lines if x.startswith('error: ')]
    if said:
        return said[-1].removeprefix('error: ').strip()
    if code < 0:
        return f'it was ended by signal {signal.Signals(-code).name}'
    return f'it ended with exit code {code}: {folder.last_line(offset)}'


def conclude(run: Run, folder: Folder, start_sha256: str | None) -> None:
    """Write the metrics file of a run whose command has succeeded.

    Raises:
        UserError: If the command has left nothing to write down.
    """
    result: dict[str, Any] = dict(
        run=run.name,
        # Of when it started: the config may have been edited since.
        settings=folder.read('run.json')['settings'],
        seed=run.seed,
        start_sha256=start_sha256,
        checkpoint=None,
        metrics={},
        cost=cost_of(earlier_attempts(folder)),
        version=pixcon_mm.__version__,
    )
    if run.kind == 'test':
        outcome = folder.path / OUTCOME
        result['metrics'] = read_outcome(outcome, start_sha256)
        folder.write('metrics.json', result)
        outcome.unlink()
        return
    checkpoint = folder.newest_checkpoint()
    if checkpoint is None:
        raise UserError(
            f'{run.name} ended without a checkpoint in {folder.path}: its '
            'config saves none at the end (default_hooks.checkpoint).'
        )
    result['checkpoint'] = describe_file(checkpoint)
    try:
        records = read_records(folder.path)
    except UserError:
        records = []  # shorter than the logger's interval
    if records:
        result['metrics'] = summarize(records)
    for name, value in speed_of(records).items():
        result['cost'][name] = value
    folder.write('metrics.json', result)


def read_outcome(path: Path, start_sha256: str | None) -> dict[str, Any]:
    """What tools/test.py wrote, checked to be of the right checkpoint."""
    try:
        outcome = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError) as error:
        raise UserError(f'The test has left no {path} ({error}).') from error
    if outcome['sha256'] != start_sha256:
        raise UserError(
            f'{path} is of another checkpoint ({outcome["sha256"]:.12}) than '
            f'the run was started for ({start_sha256:.12}): run it again.'
        )
    return outcome['metrics']


def cost_of(attempts: list[dict[str, Any]]) -> dict[str, Any]:
    """What all attempts took: hours times devices, and the peak memory."""
    hours = sum(a['seconds'] * a['devices'] for a in attempts) / 3600
    memory = [a['resident_gib'] for a in attempts if a['resident_gib']]
    return dict(
        device_hours=hours,
        device=attempts[-1]['device'] if attempts else '',
        memory_gib=max(memory, default=None),
        images_per_second=None,
    )


def speed_of(records: list[dict[str, Any]]) -> dict[str, float]:
    """Images a second, and on a GPU its peak memory, from a training log."""
    found = {}
    speeds = [
        r['images_per_second'] for r in records if 'images_per_second' in r
    ]
    if speeds:
        found['images_per_second'] = statistics.median(speeds)
    memory = [r['memory'] for r in records if 'memory' in r]
    if memory:
        found['memory_gib'] = max(memory) / 1024
    return found
