#!/usr/bin/env python
"""Demonstrate on a CPU that pre-training helps, with numbers and pictures."""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

from pixcon_mm.errors import UserError, run_tool
from pixcon_mm.visualization.curves import plot_curves
from reproduction import tables
from reproduction.differences import paired_difference
from reproduction.plan import read_plan
from reproduction.run_dir import RunDir
from reproduction.runs import select
from reproduction.status import PlanStatus

ROOT = Path(__file__).resolve().parents[1]
PLAN = 'plans/demo.yaml'
DATA = Path('data/demo')
WORK_DIR = Path('work_dirs/demo')  # the same as in the plan
CURVE = WORK_DIR / 'curve.png'
# Validation scenes with a cat and a person. POINT is on the cat of the first.
SCENES = ('000000', '000002', '000015')
POINT = ('0.65', '0.75')
FIGURES = ('matches', 'weights', 'similarity', 'pca')
PROCESSES = 2  # run the two seeds at the same time
REPORT = 20.0  # seconds between two reports of progress
CLEAR = 1.0  # smallest clear difference, in points
HIGHER, LOWER = 'Higher with both seeds', 'Lower with both seeds'
OPEN, NONE = 'No clear difference', 'Without a number'


def start(*command: str) -> subprocess.Popen:
    """Start a tool of this repository on its share of the cores."""
    cores = len(os.sched_getaffinity(0))
    threads = str(max(cores // PROCESSES, 1))
    return subprocess.Popen(
        [sys.executable, *command],
        cwd=ROOT,
        env={**os.environ, 'OMP_NUM_THREADS': threads},
        # The tool inherits the lock, as it may outlive this process.
        close_fds=False,
    )


def finish(tools: list[subprocess.Popen], report=lambda: None) -> None:
    """Wait until tools end, and call ``report`` from time to time.

    Raises:
        subprocess.CalledProcessError: If a tool failed.
    """
    try:
        reported = time.monotonic()
        while any(tool.poll() is None for tool in tools):
            time.sleep(0.2)
            if time.monotonic() - reported > REPORT:
                report()
                reported = time.monotonic()
    except BaseException:
        for tool in tools:
            tool.terminate()  # a training saves a checkpoint first
        for tool in tools:
            tool.wait()
        raise
    for tool in tools:
        if tool.returncode:
            raise subprocess.CalledProcessError(tool.returncode, tool.args)


def run_plan(status: PlanStatus) -> None:
    """Run all incomplete runs of the plan, two at a time."""

    def report() -> None:
        for run in status.runs.values():
            folder = status.run_dir(run)
            if run.kind in ('pretrain', 'finetune') and folder.is_running():
                print(f'   {run.name}: {folder.last_line():.90}', flush=True)

    line = ('tools/reproduce.py', 'run', PLAN, '--only', '*', '--redo')
    print(f'\n== The plan, by {PROCESSES} processes\n   python', *line)
    finish([start(*line) for _ in range(PROCESSES)], report)


def draw(status: PlanStatus) -> None:
    """Draw the curves, and figures of a random and a trained network."""
    runs = select(status.runs.values(), kind='pretrain')
    records = {
        f'seed {run.seed}': status.run_dir(run).records() for run in runs
    }
    plot_curves(records, ROOT / CURVE)
    weights = dict(random='none', pixcon=str(status.checkpoint(runs[0])))
    scenes = [str(DATA / f'val2017/{name}.jpg') for name in SCENES]
    print('\n== Pictures\n   python tools/visualize.py ...', flush=True)
    looks = [
        start(
            *('tools/visualize.py', runs[0].config, '--pretrained', source),
            *('--images', *scenes, '--figures', *FIGURES, '--point', *POINT),
            *('--out', str(WORK_DIR / f'look_{name}')),
        )
        for name, source in weights.items()
    ]
    finish(looks)


def show(table: tables.Table) -> None:
    """Print a line for each metric: random weights and PixCon by seed."""
    random, pixcon = table.rows
    shown = Table(title=f'{table.title}, by seed', title_justify='left')
    shown.add_column('')
    for heading in ('random', 'PixCon-SR', 'difference'):
        shown.add_column(heading, justify='right')
    for column in table.columns:
        before, after = random.cell(column), pixcon.cell(column)
        values = [
            ' '.join(f'{value:5.1f}' for value in cell.values)
            for cell in (before, after)
        ]
        pairs = ' '.join(
            f'{value:+.1f}' for value in differences(before, after)
        )
        shown.add_row(f'{column.benchmark}: {column.metric}', *values, pairs)
    print()
    Console().print(shown)


def differences(before: tables.Cell, after: tables.Cell) -> list[float]:
    """Return the differences by seed; an empty list if a value is missing."""
    pairs = paired_difference(after, before).values
    return pairs if len(pairs) == before.wanted else []


def conclude(table: tables.Table) -> str:
    """Summarise the numbers of a table, one sentence per line."""
    random, pixcon = table.rows
    found: dict[str, list[str]] = {HIGHER: [], LOWER: [], OPEN: [], NONE: []}
    for column in table.columns:
        pairs = differences(random.cell(column), pixcon.cell(column))
        name = f'{column.benchmark}: {column.metric}'
        if pairs:
            name += f' ({sum(pairs) / len(pairs):+.1f})'
        found[judge(pairs)].append(name)
    helped, total = len(found[HIGHER]), len(table.columns)
    first = 'Pre-training does not help in this run'
    if helped:
        first = f'Pre-training helps in {helped} of {total} measures'
    lines = [
        f'{kind}: {"; ".join(names)}' for kind, names in found.items() if names
    ]
    return '\n'.join(f'   {line}.' for line in [first, *lines])


def judge(pairs: list[float]) -> str:
    """Name the common direction of the differences of all seeds."""
    if not pairs:
        return NONE
    if min(pairs) >= CLEAR:
        return HIGHER
    return LOWER if max(pairs) <= -CLEAR else OPEN


def main(argv: list[str] | None = None) -> None:
    """Run all steps, unless another demo is running."""
    parser = argparse.ArgumentParser(
        description=f'{__doc__} It continues an interrupted demo in '
        f'{WORK_DIR}, and does not repeat complete runs.'
    )
    parser.parse_args(argv)
    with RunDir(ROOT / WORK_DIR).locked() as lock:
        if lock is None:
            raise UserError(
                f'A demo is already running in {WORK_DIR}: wait until '
                'it ends, or stop it.'
            )
        os.set_inheritable(lock, True)
        run_steps()


def run_steps() -> None:
    """Run all steps."""
    os.chdir(ROOT)
    plan = read_plan(PLAN)
    run_plan(PlanStatus(plan))
    status = PlanStatus(plan)
    draw(status)
    (table,) = tables.collect_tables(status)
    show(table)
    finetuned = WORK_DIR / 'finetune'
    print(f"""
== What it shows
{conclude(table)}
   Frozen: the backbone without fine-tuning. Segmentation, detection:
   fine-tuned for a minute. The scenes are collages of a dozen photographs:
   this shows that the network learns from images without labels, not how
   good it would be on yours.

== What to look at
   {DATA}/preview.jpg   some of the scenes
   {CURVE}   the losses and their monitors
   {WORK_DIR}/look_random/index.html   matches, weights and features: random
   {WORK_DIR}/look_pixcon/index.html   the same after pre-training
   {finetuned}/segmentation/pixcon-sr-demo-seed0/predictions.jpg
   {finetuned}/detection/pixcon-sr-demo-seed0/predictions.jpg
                           truth left, prediction right""")


if __name__ == '__main__':
    try:
        run_tool(main)
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)  # the tool has reported it
