"""Measure the kept checkpoints of a plan's pre-trainings, for make.py.

    python docs/study/probe.py plans/small.yaml               # every 15 epochs
    python docs/study/probe.py plans/small.yaml --only '*-seed0'

Nearest neighbours and correspondence, with the options of two of the plan's
benchmarks, so that the last epoch's numbers are those of the tables. Epoch 0
is random weights of the same seed. What is there is not measured again.
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
from reproduction import frozen
from reproduction.plan import Plan, read_plan
from reproduction.runs import Run, select
from reproduction.status import PlanStatus

ROOT = Path(__file__).resolve().parents[2]


def main(argv: list[str] | None = None) -> None:
    """Evaluate checkpoint after checkpoint."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('plan')
    parser.add_argument('--every', type=int, default=15, help='epochs (15)')
    parser.add_argument(
        '--only', default='*', metavar='PATTERN', help='of METHOD-SET-seedN'
    )
    parser.add_argument(
        '--benchmarks',
        nargs=2,
        default=('voc-knn', 'voc-correspondence'),
        metavar=('KNN', 'CORRESPONDENCE'),
        help='whose options are taken (voc-knn voc-correspondence)',
    )
    args = parser.parse_args(argv)
    plan_file = os.path.relpath(args.plan, ROOT)
    os.chdir(ROOT)
    status = PlanStatus(read_plan(plan_file))
    config, words = options_of(status.plan, args.benchmarks)
    for run in select(status.runs.values(), kind='pretrain'):
        if not fnmatchcase(run.name.partition('/')[2], args.only):
            continue
        kept: dict[int, str] = {0: 'none'}
        for path in list_checkpoints(status.run_dir(run).path):
            kind, epoch = path.stem.split('_')
            if kind == 'epoch' and int(epoch) % args.every == 0:
                kept[int(epoch)] = str(path)
        for epoch, weights in sorted(kept.items()):
            out = report_of(status, run, epoch)
            if is_measured(out, weights):
                continue
            line = [sys.executable, 'tools/evaluate_dense.py', config]
            line += ['--pretrained', weights, '--seed', str(run.seed)]
            line += ['--out', str(out), *words]
            print(f'{run.name}, epoch {epoch}', flush=True)
            subprocess.run(line, check=True, stdout=subprocess.DEVNULL)


def report_of(status: PlanStatus, run: Run, epoch: int) -> Path:
    """Return the file of a checkpoint's report; one for all random weights."""
    name = run.name.partition('/')[2] if epoch else f'random-seed{run.seed}'
    return Path(status.plan.work_dir) / 'probe' / name / f'epoch_{epoch}.json'


def options_of(plan: Plan, benchmarks: list[str]) -> tuple[str, list[str]]:
    """Return config and options of two evaluations in one.

    Raises:
        UserError: If they do not fit together.
    """
    options: dict[str, Any] = {}
    for name in benchmarks:
        benchmark = plan.benchmarks.get(name)
        if benchmark is None or benchmark.evaluate is None:
            raise UserError(
                f'The plan has no evaluation {name}: choose two of its '
                'benchmarks with --benchmarks.'
            )
        for key, value in benchmark.evaluate.items():
            if key != 'protocols' and options.setdefault(key, value) != value:
                raise UserError(
                    f'{" and ".join(benchmarks)} differ in {key}: choose two '
                    'benchmarks that can be evaluated at once.'
                )
    options['protocols'] = ['knn', 'correspondence']
    return benchmark.config, frozen.arguments(plan.with_roots(options))


def is_measured(report: Path, weights: str) -> bool:
    """Return whether a report of these weights is there."""
    if not report.is_file():
        return False
    known = json.loads(report.read_text(encoding='utf-8'))['backbone']
    sha256 = None if weights == 'none' else sha256_of(Path(weights))
    return known.get('sha256') == sha256


if __name__ == '__main__':
    try:
        run_tool(main)
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)  # the tool has reported it
