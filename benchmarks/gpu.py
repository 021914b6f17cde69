"""Everything that a first hour on one GPU should show, in three parts.

Part a runs the tests that need a GPU, part b measures speed, part c trains:
a pre-training and two fine-tunings from it. Each step is a process with a
time limit of its own; a failure does not stop the others. After every step
``OUT/<part>.json`` and ``OUT/report.md`` are written, so that a part which is
stopped loses nothing. Nothing is read from a network.
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
from pathlib import Path

import torch

from benchmarks.gpu_parts import PARTS, ROOT, TAIL, Step
from benchmarks.gpu_report import write_report
from benchmarks.report import machine
from pixcon_mm.errors import UserError
from pixcon_mm.files import atomic_write

PART_LIMIT = 495  # seconds; nothing starts when less than LEAST are left
LEAST = 10
PATIENCE = 10  # times the limits in small, for a CPU that others use, too


def gpu(args: argparse.Namespace) -> None:
    """Run the parts; raise UserError at the end if a step has failed."""
    if not (args.small or torch.cuda.is_available()):
        raise UserError(
            'benchmark.py gpu needs a CUDA device, and PyTorch sees none; '
            '--small runs everything in small on the CPU.'
        )
    args.out.mkdir(parents=True, exist_ok=True)
    failed: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        for part in args.part or PARTS:
            failed += run_part(part, args, Path(scratch) / part)
    print(f'wrote {args.out / "report.md"}')
    if failed:
        raise UserError(
            f'{len(failed)} steps failed or had no time: '
            f'{", ".join(failed)}. {args.out / "report.md"} shows why.'
        )


def run_part(part: str, args: argparse.Namespace, scratch: Path) -> list[str]:
    """Run the steps of a part; return the names of those without success."""
    patience = PATIENCE if args.small else 1
    end = time.monotonic() + patience * args.limit
    scratch.mkdir()
    record = dict(
        part=part, small=args.small, machine=machine(), steps=(done := [])
    )
    for step in plan(part, args, scratch):
        left = end - time.monotonic()
        if left < LEAST:
            result = dict(name=step.name, status='no time left', seconds=0)
        else:
            result = run_step(step, min(patience * step.limit, left), scratch)
        done.append(result)
        path = args.out / f'{part}.json'
        atomic_write(path, json.dumps(record, indent=1).encode())
        write_report(args.out)
        print(
            f'{part}  {step.name}: {result["status"]}, '
            f'{result["seconds"]:.0f} s',
            flush=True,
        )
    return [f'{part} {r["name"]}' for r in done if r['status'] != 'ok']


def plan(part: str, args: argparse.Namespace, scratch: Path) -> list[Step]:
    """Return a part's steps, or one that fails as their preparation did."""
    try:
        return PARTS[part](args, scratch)
    except (OSError, subprocess.CalledProcessError, UserError) as error:
        words = [sys.executable, '-c', f'raise SystemExit({str(error)!r})']
        return [Step('preparation', LEAST, words)]


def run_step(step: Step, limit: float, scratch: Path) -> dict:
    """Run a step's process, at most ``limit`` seconds.

    Returns:
        dict: ``name``, ``command``, ``status`` ('ok', 'failed' or 'stopped
        after its limit'), ``seconds``, ``figures`` as far as they can be
        read, and, without success, ``tail``, the last lines of the output.
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
            # Its loaders' workers, too.
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
