"""Run a plan of pre-trainings, fine-tunings and tests; show its tables.

    python tools/reproduce.py [PLAN]          # show status and missing data
    python tools/reproduce.py run [PLAN]      # run on this machine
    python tools/reproduce.py submit [PLAN]   # submit jobs to Slurm
    python tools/reproduce.py table [PLAN]    # table.md, table.csv, table.html

PLAN is plans/paper.yaml by default. Complete runs are not repeated, and
interrupted runs continue. Several `run` commands can work on the same plan.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COMMANDS = {
    'status': 'show a summary, missing data, problems, and results so far',
    'run': 'run all that this machine can; without --only, also write tables',
    'submit': 'submit all incomplete runs to Slurm',
    'table': 'write the tables',
}
STOPPING = (signal.SIGTERM, signal.SIGUSR1)
STOPPED = 75  # pixcon_mm.processes.STOPPED; its import would take seconds


def parse_args(argv: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    if not argv or argv[0] not in (*COMMANDS, '-h', '--help'):
        argv = ['status', *argv]
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest='command', required=True)
    subs = {
        name: commands.add_parser(name, help=text, description=text)
        for name, text in COMMANDS.items()
    }
    for sub in subs.values():
        sub.add_argument('plan', nargs='?', default='plans/paper.yaml')
        sub.set_defaults(only=[], gpus=None, redo=False)
    for sub in (subs['run'], subs['submit']):
        sub.add_argument(
            '--only',
            action='append',
            metavar='PATTERN',
            help="only runs whose name matches, for example 'pretrain/*'; can "
            'be given several times',
        )
        sub.add_argument(
            '--redo',
            action='store_true',
            help='also repeat runs that are stale (the old folder is renamed) '
            'or have lost their checkpoint',
        )
    subs['run'].add_argument(
        '--gpus',
        type=int,
        help="GPUs of each run, instead of the plan's number; 0: one process "
        'on any device; the total batch stays the same',
    )
    subs['submit'].add_argument(
        '--dry-run',
        action='store_true',
        help='write the scripts of the jobs, and submit nothing',
    )
    subs['status'].add_argument(
        '--details',
        action='store_true',
        help='also show the expected files of missing data, and a line for '
        'each backbone',
    )
    subs['status'].add_argument(
        '--runs', action='store_true', help='also show a line for each run'
    )
    args = parser.parse_args(argv)
    if args.gpus is not None and args.gpus < 0:
        parser.error('--gpus must be at least 0')
    return args


def _stop(*_: object) -> None:
    """End once the running tool has ended."""
    # Slurm may signal a job's script, which passes the signal on, and all
    # processes of the job as well.
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
    sys.exit(STOPPED)


def main() -> None:
    """Run the command line, in the root of the repository."""
    args = parse_args(sys.argv[1:])
    if Path(args.plan).exists():  # otherwise it is relative to the root
        args.plan = os.path.relpath(args.plan, ROOT)
    os.chdir(ROOT)
    # Set before the slow imports, so that a signal of Slurm during them ends
    # the job with the status that puts it back into the queue.
    for number in (*STOPPING, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(STOPPED))
    from pixcon_mm.errors import run_tool
    from reproduction import commands

    signal.signal(signal.SIGINT, signal.default_int_handler)
    # From here on, as after Ctrl-C: the running tool saves a checkpoint and
    # ends, and the attempt is recorded.
    for number in STOPPING:
        signal.signal(number, _stop)
    try:
        run_tool(lambda: commands.call(args))
    except subprocess.CalledProcessError as error:
        sys.exit(error.returncode)  # the command has printed its error
