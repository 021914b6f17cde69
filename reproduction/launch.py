"""Execution of a run: build its command, watch it, record its result."""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import os
import shlex
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch

import pixcon_mm
from pixcon_mm.checkpoint.run_checkpoint import newest_checkpoint
from pixcon_mm.errors import UserError
from pixcon_mm.processes import STOPPED
from pixcon_mm.visualization.curves import summarize
from reproduction import frozen, labels
from reproduction.run_dir import RunDir, cost_of, describe_file
from reproduction.runs import Run, load_silently
from reproduction.status import PlanStatus

HEARTBEAT = 10.0  # seconds between two records of the time so far
POLL = 0.2  # seconds between two checks of the command
EVALUATION = 'evaluation.json'  # output of tools/test.py


def build_command(
    status: PlanStatus, run: Run, processes: int | None = None
) -> list[str]:
    """Build the command that starts or resumes a run with a complete parent.

    The command must run in the root of this repository.

    Args:
        status (PlanStatus): The plan and the status of its runs.
        run (Run): The run.
        processes (int, optional): Number of processes, instead of the plan's;
            the total batch stays the recipe's.
    """
    run_dir = status.run_dir(run)
    gpus = run.gpus if processes is None else processes
    source = run.weights
    if run.parent:
        source = str(status.checkpoint(run.parent))
    if run.evaluate is not None:
        options = status.plan.with_roots(run.evaluate)
        line = [sys.executable, 'tools/evaluate_dense.py', run.config]
        line += ['--pretrained', source, '--seed', str(run.seed)]
        line += ['--out', str(run_dir.path / frozen.REPORT)]
        return [*line, *frozen.arguments(options)]
    tool = 'test' if run.kind == 'test' else 'train'
    line = [run.config, *([source] if tool == 'test' else [])]
    if gpus:
        line = ['bash', f'tools/dist_{tool}.sh', *line, str(gpus)]
    else:
        line = [sys.executable, f'tools/{tool}.py', *line]
    line += ['--work-dir', str(run_dir.path)]
    if run.kind == 'test':
        line += ['--out', str(run_dir.path / EVALUATION)]
    elif run_dir.newest_checkpoint():
        line += ['--resume']  # from the newest complete checkpoint
    elif run.kind == 'finetune':
        line += ['--pretrained', source]
    if run.kind == 'finetune':
        line += ['--no-validate']  # its test is a run of its own
    if run.kind != 'test':
        line += _total_batch(run, is_needed=gpus > 0)
    options = status.plan.arguments(run.options)
    if run.labels is not None:
        file = labels.list_file(run_dir).resolve()
        options.append(f'{labels.KEY}={file}')
    return [*line, '--cfg-options', f'randomness.seed={run.seed}', *options]


def _total_batch(run: Run, is_needed: bool) -> list[str]:
    """Return the option for the recipe's number of images per step.

    Raises:
        UserError: If the recipe does not state it although it is needed.
    """
    cfg = load_silently(run.config, run.options)
    base = (cfg.get('auto_scale_lr') or {}).get('base_batch_size')
    if base:
        return ['--total-batch', str(base)]
    if is_needed:
        raise UserError(
            f'{run.config} does not state its total batch, which several '
            'processes share, as auto_scale_lr=dict(base_batch_size=...).'
        )
    return []


def readable(line: list[str]) -> str:
    """Write a command so that it can be pasted into a terminal."""
    words = [Path(line[0]).name if line[0] == sys.executable else line[0]]
    return shlex.join([*words, *line[1:]])


def run_command(
    run_dir: RunDir, line: list[str], devices: int, lock: int
) -> str | None:
    """Run a command to its end, and record the attempt in any case.

    Args:
        run_dir (RunDir): Folder of the run.
        line (list[str]): The command.
        devices (int): Number of devices, for the cost.
        lock (int): Descriptor of the run's lock, which the command inherits.

    Returns:
        str | None: A sentence about the failure; None if the run succeeded.
    """
    attempt = _new_attempt(command=line, devices=devices)
    attempts = [*run_dir.attempts(), attempt]
    began = time.monotonic()
    with open(run_dir.log_file, 'ab') as log:
        log_start = log.tell()
        child = subprocess.Popen(
            line,
            stdout=log,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            pass_fds=(lock,),
            env={**os.environ, 'PYTHON': sys.executable},
        )
    try:
        recorded = -HEARTBEAT
        while True:
            pid, status, usage = os.wait4(child.pid, os.WNOHANG)
            attempt['seconds'] = round(time.monotonic() - began, 3)
            if pid:
                break
            if attempt['seconds'] - recorded >= HEARTBEAT:
                recorded = attempt['seconds']
                # A short failure of the disk must not end a long training.
                with contextlib.suppress(UserError):
                    run_dir.write('attempts.json', attempts)
            time.sleep(POLL)
    except BaseException:
        # The command holds the lock, so it must not outlive this process.
        child.send_signal(signal.SIGTERM)
        child.wait()
        attempt['error'] = 'it was stopped'
        # With a full disk, the process must stop all the same.
        with contextlib.suppress(UserError):
            run_dir.write('attempts.json', attempts)
        raise
    child.returncode = attempt['exit'] = os.waitstatus_to_exitcode(status)
    attempt['resident_gib'] = round(usage.ru_maxrss / 2**20, 3)
    if attempt['exit'] == STOPPED:
        attempt['error'] = 'it was stopped by a signal'
    elif attempt['exit']:
        attempt['error'] = _failure(run_dir, log_start, attempt['exit'])
    run_dir.write('attempts.json', attempts)
    return attempt['error']


def record_failure(run_dir: RunDir, error: str) -> None:
    """Record that a run failed before or after its command."""
    attempt = _new_attempt(exit=1, error=error)
    run_dir.write('attempts.json', [*run_dir.attempts(), attempt])


def _new_attempt(**known: Any) -> dict[str, Any]:
    """Return the record of an attempt; ``exit`` is None until the end."""
    has_gpu = torch.cuda.is_available()
    blank = dict(
        command=[],
        started=datetime.datetime.now().isoformat(timespec='seconds'),
        seconds=0.0,
        devices=1,
        device=torch.cuda.get_device_name(0) if has_gpu else 'CPU',
        host=socket.gethostname(),
        version=pixcon_mm.__version__,
        exit=None,
        error=None,
        resident_gib=None,
    )
    return {**blank, **known}


def _failure(run_dir: RunDir, log_start: int, code: int) -> str:
    """Describe why a command failed, by its error message if there is one."""
    with open(run_dir.log_file, 'rb') as file:
        file.seek(log_start)
        lines = file.read().decode(errors='replace').split('\n')
    errors = [line for line in lines if line.startswith('error: ')]
    if errors:
        return errors[-1].removeprefix('error: ').strip()
    if code < 0:
        return f'it was ended by signal {signal.Signals(-code).name}'
    last_line = run_dir.last_line(log_start)
    return f'it ended with exit code {code}: {last_line}'


def write_metrics(run: Run, run_dir: RunDir) -> None:
    """Write the metrics file of a run whose command has succeeded.

    Raises:
        UserError: If the result is missing or belongs to another checkpoint.
    """
    # Use the settings at the start, as config and plan may have changed since.
    started = run_dir.read('run.json')
    evaluation = run_dir.path / EVALUATION
    checkpoint, metrics, records = None, {}, []
    if run.kind == 'test':
        report = json.loads(evaluation.read_text(encoding='utf-8'))
        metrics = report['metrics']
        if report['sha256'] != started['parent_sha256']:
            raise UserError(
                f'{evaluation} belongs to another checkpoint than that of the '
                "run's start: run it again."
            )
    elif run.kind == 'evaluate':
        report = json.loads((run_dir.path / frozen.REPORT).read_text())
        if report['backbone'].get('sha256') != started['parent_sha256']:
            raise UserError(
                f'{run_dir.path / frozen.REPORT} belongs to another '
                "checkpoint than that of the run's start: run it again."
            )
        metrics = frozen.metrics_of(report['results'])
    else:
        # The one that the run would resume from, whatever the times of the
        # files: copying a folder changes them.
        furthest, _ = newest_checkpoint(run_dir.path)
        # Files without the optimiser's state cannot be compared.
        newest = furthest or run_dir.newest_checkpoint()
        if newest is None:
            raise UserError(
                f'{run.name} ended without a checkpoint in {run_dir.path}: '
                'its config saves none at the end (default_hooks.checkpoint).'
            )
        checkpoint = describe_file(newest)
        records = run_dir.records()
        metrics = summarize(records) if records else {}
    result = dict(
        **started,
        run=run.name,
        seed=run.seed,
        checkpoint=checkpoint,
        metrics=metrics,
        cost=dataclasses.asdict(cost_of(run_dir.attempts(), records)),
        version=pixcon_mm.__version__,
    )
    run_dir.write('metrics.json', result)
    evaluation.unlink(missing_ok=True)
