"""Execution of the selected runs of a plan on this machine."""

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
from reproduction.runs import Run, forget_configs, settings_of
from reproduction.status import RUNNABLE, TO_REDO, PlanStatus, State, Status

WAIT = 2.0  # seconds between two checks of runs in other processes


@dataclass(frozen=True)
class Selection:
    """Runs that were selected on the command line, and how to run them."""

    only: tuple[str, ...] = ()  # patterns of names; all runs if empty
    gpus: int | None = None  # processes per run, instead of the plan's
    # Include runs that are stale or have lost their checkpoint. The folder of
    # a stale run is renamed.
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
        if not runs:
            raise UserError(
                'The plan has no runs: its tables need pre-training sets, '
                'methods and benchmarks.'
            )
        if not picked:
            close = [n for p in self.only for n in get_close_matches(p, runs)]
            raise UserError(
                f'No run matches {" ".join(self.only)}; there is, for example,'
                f' {(close or list(runs))[0]}.'
            )
        return picked

    def processes(self, run: Run) -> int:
        """Return the number of processes of a run; 0 for no launcher."""
        if self.gpus is None or run.kind == 'evaluate':
            return run.gpus  # an evaluation always is one process
        return self.gpus

    def wants(self, status: PlanStatus, run: Run, own: Status) -> bool:
        """Check if a run with the status ``own`` should and can run now."""
        if own.state not in (*RUNNABLE, *(TO_REDO if self.redo else ())):
            return False
        return status.has_start(run)


def fits(processes: int) -> bool:
    """Check if this machine has enough GPUs for a run."""
    return processes <= torch.cuda.device_count() or processes <= 1


def execute(
    status: PlanStatus, selection: Selection, log: Callable[[str], None]
) -> bool:
    """Run all selected runs that are incomplete and possible here.

    Several processes can execute a plan at the same time: each run is locked
    while it runs, and the others wait for it.

    Args:
        status (PlanStatus): The plan and the status of its runs.
        selection (Selection): Runs to execute.
        log (Callable): Function that gets a line of text for each event.

    Returns:
        bool: True if all selected runs are complete in the end.
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
        # Use the same statuses as for `wanted`. If they were read again, a run
        # that another process has just left would be neither wanted nor
        # running, and no process would continue it.
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
            f'{run.name} needs {selection.processes(run)} GPUs, this machine '
            f'has {torch.cuda.device_count()}: choose another number with '
            '--gpus (0 for one process, also on a CPU; the total batch stays '
            'the same), or use `submit`.'
        )
    return all(status.status(run).metrics for run in selected)


def _make_data(
    status: PlanStatus, runs: list[Run], log: Callable[[str], None]
) -> None:
    """Make missing data of runs, if the plan names a tool for it."""
    for name in dict.fromkeys(name for run in runs for name in run.data):
        make = status.plan.data[name].make
        if make is None or status.data[name].is_complete:
            continue
        # Beside the data, which several plans may share.
        folder = RunDir(Path(status.plan.data[name].root).absolute())
        with folder.locked(wait=True) as lock:
            status.check_data()  # another process may have made them
            if status.data[name].is_complete:
                continue
            log(f'{name}: {status.data[name].sentence}')
            log(f'{name}: python {make}')
            # The command inherits the lock, so that it stays locked if this
            # process is killed.
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
    """Execute a run; return False if another process has or had it."""
    run_dir = status.run_dir(run)
    with run_dir.locked() as lock:
        if lock is None:
            return False
        # Another process may have completed the run, or a config may have
        # changed.
        forget_configs()
        status.forget()
        own = status.judge_files(run)
        if not selection.wants(status, run, own):
            return False
        if own.state is State.STALE:
            log(f'{run.name}: old files moved to {run_dir.set_aside()}')
        try:
            if own.state is State.LOST:
                # Otherwise, if this attempt is stopped, its checkpoints would
                # be judged by the old result, and not be continued.
                (run_dir.path / 'metrics.json').unlink()
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
            # Only this run fails; the others continue.
            error = str(mistake)
            record_failure(run_dir, error)
    log(f'{run.name}: {f"failed: {error}" if error else "complete"}')
    return True
