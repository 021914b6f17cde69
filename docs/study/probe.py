"""Evaluate kept checkpoints of a plan's pre-trainings, for make.py.

    python docs/study/probe.py plans/small.yaml               # every 15 epochs
    python docs/study/probe.py plans/small.yaml --only '*-seed0'

The protocols are nearest neighbours and correspondence, with the options of
the plan's benchmarks voc-knn and voc-correspondence, so that the numbers of
the last epoch equal those in the tables. Epoch 0 has random weights of the
same seed. Existing results are not measured again.
"""

import argparse
import json
import os
import subprocess
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pixcon_mm.checkpoint.load import sha256_of
from pixcon_mm.checkpoint.run_checkpoint import list_checkpoints
from pixcon_mm.errors import UserError, run_tool
from pixcon_mm.tools import evaluate_dense
from reproduction import frozen
from reproduction.plan import Plan, read_plan
from reproduction.runs import Run, select
from reproduction.status import PlanStatus, State

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ('voc-knn', 'voc-correspondence')  # of the plan
# Settings that do not change the numbers; the weights are compared by hash.
NOT_COMPARED = ('pretrained', 'out', 'workers', 'device')


def main(argv: list[str] | None = None) -> None:
    """Evaluate one checkpoint after the other."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('plan')
    parser.add_argument('--every', type=int, default=15, help='epochs (15)')
    parser.add_argument(
        '--only',
        default='*',
        metavar='PATTERN',
        help='pattern for METHOD-SET-seedN of the pre-trainings',
    )
    args = parser.parse_args(argv)
    if args.every < 1:
        parser.error('--every must be at least 1')
    plan_file = os.path.relpath(args.plan, ROOT)
    os.chdir(ROOT)
    status = PlanStatus(read_plan(plan_file))
    config, words = options_of(status.plan)
    for run in select(status.runs.values(), kind='pretrain'):
        if not fnmatchcase(run.name.partition('/')[2], args.only):
            continue
        if status.status(run).state is State.STALE:
            continue  # its checkpoints are of other settings
        kept: dict[int, str] = {0: 'none'}
        for path in list_checkpoints(status.run_dir(run).path):
            kind, epoch = path.stem.split('_')
            if kind == 'epoch' and int(epoch) % args.every == 0:
                kept[int(epoch)] = str(path)
        for epoch, weights in sorted(kept.items()):
            out = report_of(status, run, epoch)
            line = [config, '--pretrained', weights, '--seed', str(run.seed)]
            line += ['--out', str(out), *words]
            if is_measured(out, weights, line):
                continue
            print(f'{run.name}, epoch {epoch}', flush=True)
            tool = [sys.executable, 'tools/evaluate_dense.py']
            subprocess.run(
                [*tool, *line], check=True, stdout=subprocess.DEVNULL
            )


def report_of(status: PlanStatus, run: Run, epoch: int) -> Path:
    """Return the file of a report; random weights share one per seed.

    Others are in the run's folder, so that they are renamed with it.
    """
    if epoch:
        return status.run_dir(run).path / f'probe/epoch_{epoch}.json'
    return Path(status.plan.work_dir) / f'probe/random-seed{run.seed}.json'


def options_of(plan: Plan) -> tuple[str, list[str]]:
    """Merge the options of ``BENCHMARKS``; return them with the config.

    Raises:
        UserError: If the plan lacks one of them, or they disagree.
    """
    options: dict[str, Any] = {}
    for name in BENCHMARKS:
        benchmark = plan.benchmarks.get(name)
        if benchmark is None or benchmark.evaluate is None:
            raise UserError(
                f'The plan has no evaluation {name}, whose options the '
                'measurements take: add it to the plan.'
            )
        for key, value in benchmark.evaluate.items():
            if key != 'protocols' and options.setdefault(key, value) != value:
                raise UserError(
                    f'{" and ".join(BENCHMARKS)} differ in {key}: give them '
                    'the same value in the plan.'
                )
    options['protocols'] = ['knn', 'correspondence']
    return benchmark.config, frozen.arguments(plan.with_roots(options))


def is_measured(report: Path, weights: str, line: list[str]) -> bool:
    """Check if there is a report for these weights and settings."""
    if not report.is_file():
        return False
    known = json.loads(report.read_text(encoding='utf-8'))
    wanted = vars(evaluate_dense.parse_args(line))
    wanted['data'] = str(wanted['data'])
    if any(
        value != known['settings'].get(key)
        for key, value in wanted.items()
        if key not in NOT_COMPARED
    ):
        return False
    sha256 = None if weights == 'none' else sha256_of(Path(weights))
    return known['backbone'].get('sha256') == sha256


if __name__ == '__main__':
    try:
        run_tool(main)
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)  # the tool has reported it
