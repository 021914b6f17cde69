#!/usr/bin/env python
"""Run a plan of pre-trainings, fine-tunings and tests; show its tables.

    python tools/reproduce.py [PLAN]          # how far it is, what is missing
    python tools/reproduce.py run [PLAN]      # do what can be done here
    python tools/reproduce.py submit [PLAN]   # the same, as jobs of Slurm
    python tools/reproduce.py table [PLAN]    # table.md, table.csv, table.html

PLAN is plans/paper.yaml if none is named. What is complete is not run again,
what was interrupted continues, and several `run` can share a plan.
"""

import argparse
import contextlib
import datetime
import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from rich.console import Console  # noqa: E402

from pixcon_mm.errors import run_tool  # noqa: E402
from pixcon_mm.files import atomic_write  # noqa: E402
from pixcon_mm.processes import STOPPED  # noqa: E402
from reproduction import overview, slurm  # noqa: E402
from reproduction.collect import collect  # noqa: E402
from reproduction.execute import Choice, execute  # noqa: E402
from reproduction.formats import to_csv, to_markdown  # noqa: E402
from reproduction.page import page  # noqa: E402
from reproduction.plan_file import read_plan  # noqa: E402
from reproduction.state import Survey  # noqa: E402

DEFAULT = 'plans/paper.yaml'
COMMANDS = ('status', 'run', 'submit', 'table')


def wide_console() -> Console:
    """A console that breaks lines only where a person would see it."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def status(survey: Survey, args: argparse.Namespace) -> bool:
    """Data, runs, what is missing, cost, and the tables so far."""
    console = wide_console()
    overview.show_data(survey, console)
    overview.show_starts(survey, console)
    if args.runs:
        overview.show_runs(survey, console)
    for sentence in overview.problems(survey):
        console.print(f'  ! {sentence}', markup=False, highlight=False)
    console.print(overview.summary(survey), highlight=False)
    overview.show_tables(collect(survey), console)
    return True


def run(survey: Survey, args: argparse.Namespace) -> bool:
    """Run what can run here; without --only, write the tables after it."""
    console = wide_console()
    overview.show_data(survey, console)

    def say(text: str) -> None:
        now = datetime.datetime.now().strftime('%H:%M:%S')
        console.print(
            f'{now} {text}', markup=False, highlight=False, soft_wrap=True
        )

    bar = contextlib.nullcontext()
    if console.is_terminal:
        bar = console.status('')

    def watch(name: str, line: str) -> None:
        if console.is_terminal:
            bar.update(f'{name}: {line[-100:]}')

    choice = Choice(tuple(args.only), args.gpus, args.redo)
    with bar:
        is_complete = execute(survey, choice, say, watch)
    survey.forget()
    for sentence in overview.problems(survey):
        console.print(f'  ! {sentence}', markup=False, highlight=False)
    console.print(overview.summary(survey), highlight=False)
    # A job of many would write the tables at once with the others.
    return (
        table(survey, args) and is_complete if not args.only else is_complete
    )


def submit(survey: Survey, args: argparse.Namespace) -> bool:
    """Hand what is not complete to Slurm."""
    choice = Choice(tuple(args.only), redo=args.redo)
    slurm.submit(survey, choice, args.plan, args.dry_run)
    return True


def table(survey: Survey, args: argparse.Namespace) -> bool:
    """Write the tables."""
    tables = collect(survey)
    folder = Path(args.out or survey.plan.work_dir)
    now = datetime.datetime.now().strftime('%Y-%m-%d %H:%M')
    created = f'{now}: {overview.summary(survey).rstrip(".")}'
    repeat = f'python tools/reproduce.py run {args.plan}'
    missing = overview.problems(survey)
    title = survey.plan.title
    texts = {
        'table.md': to_markdown(tables),
        'table.csv': to_csv(tables),
        'table.html': page(title, tables, missing, created, repeat),
    }
    for name, text in texts.items():
        atomic_write(folder / name, text.encode())
    print(f'{folder}/: {", ".join(texts)}')
    return True


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line."""
    argv = sys.argv[1:] if argv is None else argv
    if not argv or argv[0] not in (*COMMANDS, '-h', '--help'):
        argv = ['status', *argv]
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest='command', required=True)
    for call in (status, run, submit, table):
        sub = commands.add_parser(call.__name__, help=call.__doc__)
        sub.set_defaults(call=call, out=None, only=[])
        sub.add_argument('plan', nargs='?', default=DEFAULT, help='YAML file')
        if call in (run, submit):
            sub.add_argument(
                '--only',
                action='append',
                default=[],
                metavar='PATTERN',
                help="runs of such names alone, for example 'pretrain/*'; "
                'can be given several times',
            )
            sub.add_argument(
                '--redo',
                action='store_true',
                help='also what is stale (its old files are kept beside) or '
                'has lost its checkpoint',
            )
        if call is run:
            sub.add_argument(
                '--gpus',
                type=int,
                help="processes of each run, instead of the plan's; 0 for "
                'one on whatever there is. The total batch stays',
            )
        if call is submit:
            sub.add_argument(
                '--dry-run',
                action='store_true',
                help='print what would be submitted',
            )
        if call is status:
            sub.add_argument(
                '--runs', action='store_true', help='a line for each run too'
            )
        if call is table:
            sub.add_argument('--out', help="folder; default: the plan's")
    return parser.parse_args(argv)


def main() -> None:
    """Do what was asked for, in the root of the repository."""
    args = parse_args()
    if Path(args.plan).exists():  # else it may be below the root
        args.plan = os.path.relpath(args.plan, ROOT)
    if args.out:
        args.out = os.path.abspath(args.out)
    os.chdir(ROOT)
    # As Ctrl-C does: let the tool that runs save and end, and take note.
    for number in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, lambda *_: sys.exit(STOPPED))
    survey = Survey(read_plan(args.plan))
    if not args.call(survey, args):
        sys.exit(1)


if __name__ == '__main__':
    try:
        run_tool(main)
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)  # the tool has said what is wrong
