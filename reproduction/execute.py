"""Run what can run here, in order, each run once."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches
from fnmatch import fnmatch
from pathlib import Path

import torch

from pixcon_mm.errors import UserError
from reproduction.labels import write_list
from reproduction.launch import (
    build_command,
    readable,
    record_failure,
    run_command,
    write_metrics,
)
from reproduction.run_dir import RunDir
from reproduction.runs import SCORED, Run, forget_configs, settings_of
from reproduction.status import RUNNABLE, TO_REDO, PlanStatus, State, Status

WAIT = 2.0  # seconds between two looks at a run of another process


@dataclass(frozen=True)
class Selection:
    """Runs that were selected on the command line, and how to run them."""

    only: tuple[str, ...] = ()  # patterns of names; all runs without any
    gpus: int | None = None  # processes of each, instead of the plan's
    # Also runs that are stale or have lost their checkpoint; the folder of a
    # stale one is kept.
    redo: bool = False

    def pick(self, runs: dict[str, Run]) -> list[Run]:
        """List the selected runs.

        Raises:
            UserError: If there is none.
        """
        picked = [
            run
            for name, run in runs.items()
            if not self.only or any(fnmatch(name, p) for p in self.only)
        ]
        if not picked:
            close = [n for p in self.only for n in get_close_matches(p, runs)]
            raise UserError(
                f'No run matches {" ".join(self.only)}; there is, for example,'
                f' {(close or list(runs))[0]}.'
            )
        return picked

    def processes(self, run: Run) -> int:
        """Return the processes of a run; 0 for one without a launcher."""
        if self.gpus is None or run.kind == 'evaluate':
            return run.gpus  # an evaluation is one process
        return self.gpus

    def wants(self, status: PlanStatus, run: Run, own: Status) -> bool:
        """Return whether a run with a status of its own is to run now."""
        if own.state not in (*RUNNABLE, *(TO_REDO if self.redo else ())):
            return False
        parent = status.parent(run)
        if parent is None or parent.state is State.COMPLETE:
            return True
        # A run that resumes from its own checkpoint reads no lost one.
        has_begun = status.run_dir(run).newest_checkpoint() is not None
        is_lost = parent.state is State.LOST
        return is_lost and has_begun and run.kind not in SCORED


def fits(processes: int) -> bool:
    """Return whether this machine has the GPUs that a run wants."""
    return processes <= torch.cuda.device_count() or processes <= 1


def execute(
    status: PlanStatus, selection: Selection, log: Callable[[str], None]
) -> bool:
    """Run all that is selected, incomplete and possible.

    Several processes can do so at once: each run is locked while it runs,
    and one that another process has is waited for. ``log`` gets a line for
    each event. Returns whether all that is selected is complete in the end.
    """
    selected = selection.pick(status.runs)
    _make_data(status, selected, log)
    tried: set[str] = set()
    while True:
        status.forget()
        wanted = [
            run
            for run in selected
            if run.name not in tried
            and selection.wants(status, run, status.status(run))
        ]
        ready = [run for run in wanted if fits(selection.processes(run))]
        # From the same look at the runs as `wanted`. After a second look, a
        # run that another process has left in between would be neither
        # wanted nor running, and nobody would continue it.
        states = {status.status(run).state for run in selected}
        for run in ready:
            if _run_if_free(status, run, selection, log):
                tried.add(run.name)
                break
        else:
            if State.RUNNING not in states and not ready:
                break
            time.sleep(WAIT)
    for run in wanted:
        log(
            f'{run.name}: wants {selection.processes(run)} GPUs, this machine '
            f'has {torch.cuda.device_count()}: choose another number with '
            '--gpus (0 for one process, also on a CPU; the total batch stays '
            'the same), or use `submit`.'
        )
    # One that has lost its checkpoint has given its result.
    return states <= {State.COMPLETE, State.LOST}


def _make_data(
    status: PlanStatus, runs: list[Run], log: Callable[[str], None]
) -> None:
    """Make the data that runs lack, as far as the plan says how."""
    for name in dict.fromkeys(name for run in runs for name in run.data):
        make = status.plan.data[name].make
        if make is None or status.data[name].is_complete:
            continue
        folder = RunDir(Path(status.plan.work_dir) / 'data' / name)
        with folder.locked(wait=True) as lock:
            status.check_data()  # another process may have made them
            if status.data[name].is_complete:
                continue
            log(f'{name}: {status.data[name].sentence}')
            log(f'{name}: python {make}')
            # It inherits the lock, as a run's command does.
            command = [sys.executable, *make.split()]
            subprocess.run(command, check=True, pass_fds=(lock,))
            status.check_data()
            if not status.data[name].is_complete:
                raise UserError(
                    f'{make} has run, but {name} is '
                    f'{status.data[name].sentence}'
                )


def _run_if_free(
    status: PlanStatus,
    run: Run,
    selection: Selection,
    log: Callable[[str], None],
) -> bool:
    """Run one run; False if another process has it or has completed it."""
    run_dir = status.run_dir(run)
    with run_dir.locked() as lock:
        if lock is None:
            return False
        # Another process may have been faster, a config may have changed.
        forget_configs()
        status.forget()
        own = status.judge_files(run)
        if not selection.wants(status, run, own):
            return False
        if own.state is State.STALE:
            log(f'{run.name}: old files moved to {run_dir.set_aside()}')
        try:
            parent = status.parent(run)
            sha256 = parent and parent.metrics['checkpoint']['sha256']
            settings = settings_of(run)
            processes = selection.processes(run)
            line = build_command(status, run, processes)
            if run.labels is not None:
                write_list(status.plan, run, run_dir)
            log(f'{run.name}: {readable(line)}')
            started = dict(settings=settings, parent_sha256=sha256)
            run_dir.write('run.json', started)
            error = run_command(run_dir, line, max(processes, 1), lock)
            if error is None:
                write_metrics(run, run_dir)
        except UserError as mistake:
            # Of this run alone: others continue.
            error = str(mistake)
            record_failure(run_dir, error)
    log(f'{run.name}: {f"failed: {error}" if error else "complete"}')
    return True
