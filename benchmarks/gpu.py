"""Tests, measurements and short trainings on one GPU, in three parts.

Part a runs the tests that need a GPU. Part b measures speed. Part c runs a
pre-training and two fine-tunings from it, and measures what takes longer. Each
step is a process with a time limit, and its failure does not stop the others.
``OUT/<part>.json`` and ``OUT/report.md`` are written after every step, so that
no result is lost if a part is stopped. No network is needed.
"""

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks.gpu_parts import ROOT, TAIL, Step, tests, training
from benchmarks.gpu_report import read_parts, write_report
from benchmarks.gpu_speed import slow_speed, speed
from benchmarks.report import machine
from pixcon_mm.errors import UserError
from pixcon_mm.files import atomic_write

PART_LIMIT = 500  # seconds for a part, and what earlier ones have left over
LEAST = 10  # seconds that must be left to start a step
PATIENCE = 10  # factor on the limits with --small, for a busy CPU


def training_and_more(args: argparse.Namespace, scratch: Path) -> list[Step]:
    """Return the trainings, and measurements for which part b has no time."""
    return [*training(args, scratch), *slow_speed(args, scratch)]


PARTS: dict[str, Callable[[argparse.Namespace, Path], list[Step]]] = dict(
    a=tests, b=speed, c=training_and_more
)


def gpu(args: argparse.Namespace) -> None:
    """Run tests, measurements and short trainings on a GPU; write a report."""
    if not (args.small or torch.cuda.is_available()):
        raise UserError(
            'benchmark.py gpu needs a CUDA device, but PyTorch finds none; '
            '--small is a small trial run on the CPU.'
        )
    args.out.mkdir(parents=True, exist_ok=True)
    # Each report has the results of all parts. They are checked before the
    # first step, which may take minutes.
    read_parts(args.out)
    failed: list[str] = []
    end = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        for part in args.part or PARTS:
            end += args.limit * (PATIENCE if args.small else 1)
            failed += run_part(part, args, Path(scratch) / part, end)
    print(f'wrote {args.out / "report.md"}')
    if failed:
        raise UserError(
            f'{len(failed)} steps failed or had no time left: '
            f'{", ".join(failed)}. {args.out / "report.md"} shows why.'
        )


def run_part(
    part: str, args: argparse.Namespace, scratch: Path, end: float
) -> list[str]:
    """Run the steps of a part until a time on the monotonic clock.

    Returns:
        list[str]: Names of the steps that failed or had no time left.
    """
    patience = PATIENCE if args.small else 1
    scratch.mkdir()
    record = dict(part=part, small=args.small, machine=machine())
    steps, done = plan(part, args, scratch), []
    kept = kept_results(record, args.out, steps) if args.resume else {}
    for step in steps:
        if step.name in kept:
            done.append(kept.pop(step.name))
            continue
        left = end - time.monotonic()
        if left < LEAST:
            result = dict(name=step.name, status='no time left', seconds=0)
        else:
            result = run_step(step, min(patience * step.limit, left), scratch)
        done.append(result)
        record['steps'] = [*done, *kept.values()]
        path = args.out / f'{part}.json'
        atomic_write(path, json.dumps(record, indent=1).encode())
        write_report(args.out)
        print(
            f'{part}  {step.name}: {result["status"]}, '
            f'{result["seconds"]:.0f} s',
            flush=True,
        )
    return [f'{part} {r["name"]}' for r in done if r['status'] != 'ok']


def kept_results(
    record: dict, folder: Path, steps: list[Step]
) -> dict[str, dict]:
    """Return the results of steps that need not run again, by name.

    They have succeeded in an earlier run. A step whose files are needed by one
    that has to run must run again, as its files are gone.

    Raises:
        UserError: If it ran on another machine, or in another size.
    """
    earlier = read_parts(folder).get(record['part'])
    if earlier is None:
        return {}
    for key in ('machine', 'small'):
        if earlier[key] != record[key]:
            raise UserError(
                f'--resume: {folder} was measured with {key} {earlier[key]}, '
                f'and this is {record[key]}: choose another --out.'
            )
    kept = {s['name']: s for s in earlier['steps'] if s['status'] == 'ok'}
    for step in steps:
        if step.name not in kept and step.needs:
            kept.pop(step.needs, None)
    return kept


def plan(part: str, args: argparse.Namespace, scratch: Path) -> list[Step]:
    """Return the steps of a part.

    If their preparation fails, return a step that fails with its message.
    """
    try:
        return PARTS[part](args, scratch)
    except (OSError, subprocess.CalledProcessError, UserError) as error:
        words = [sys.executable, '-c', f'raise SystemExit({str(error)!r})']
        return [Step('preparation', LEAST, words)]


def run_step(step: Step, limit: float, scratch: Path) -> dict:
    """Run a step's process for at most ``limit`` seconds.

    Returns:
        dict: ``name``, ``command``, ``status`` ('ok', 'failed' or 'stopped
        after ... s'), ``seconds``, and ``figures`` if they can be read. If the
        step has failed, also ``tail``, the last lines of its output.
    """
    log = scratch / 'output'
    paths = [str(ROOT), os.environ.get('PYTHONPATH')]
    env = dict(
        os.environ,
        PYTHONUNBUFFERED='1',
        PYTHON=sys.executable,
        PYTHONPATH=os.pathsep.join(filter(None, paths)),
    )
    start = time.monotonic()
    with log.open('wb') as output:
        process = subprocess.Popen(
            step.words,
            cwd=ROOT,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = 'failed' if process.wait(limit) else 'ok'
        except subprocess.TimeoutExpired:
            status = f'stopped after {limit:.0f} s'
        finally:
            # Kill the whole group, including workers of loaders.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    result = dict(
        name=step.name,
        command=' '.join(step.words).replace(sys.executable, 'python'),
        status=status,
        seconds=time.monotonic() - start,
    )
    try:
        result['figures'] = step.collect() if step.collect else {}
    except (OSError, ValueError, ET.ParseError, UserError) as error:
        if status == 'ok':
            result.update(status='failed', error=f'no figures: {error}')
    if result['status'] != 'ok':
        lines = log.read_text(errors='replace').splitlines()
        result['tail'] = lines[-TAIL:]
    return result
