"""How far each run of a plan has got, judged by its files."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pixcon_mm.processes import STOPPED
from reproduction.data_check import Verdict, check
from reproduction.folder import DamagedError, Folder, is_same_file
from reproduction.plan import Plan
from reproduction.runs import Run, runs_of, with_roots
from reproduction.settings import (
    as_arguments,
    difference,
    settings_of,
)


class State(enum.Enum):
    """What a run is."""

    COMPLETE = 'complete'
    RUNNING = 'running'
    READY = 'ready'
    WAITING = 'waiting'
    INTERRUPTED = 'interrupted'
    FAILED = 'failed'
    DAMAGED = 'damaged'
    LOST = 'checkpoint missing'
    STALE = 'stale'
    NO_DATA = 'data missing'


# What can be taken up as it is: nothing done yet, or not to the end.
RUNNABLE = (State.READY, State.INTERRUPTED, State.FAILED, State.DAMAGED)
# What is begun anew only if a person says so.
TO_REDO = (State.STALE, State.LOST)


@dataclass(frozen=True)
class Status:
    """A run's state.

    Args:
        state (State): In a word.
        why (str): What is wrong or missing, with names; '' if nothing.
        metrics (dict | None): Content of the metrics file, if that holds.
    """

    state: State
    why: str = ''
    metrics: dict[str, Any] | None = None


class Survey:
    """The state of all runs of a plan, as the disk has it now.

    Args:
        plan (Plan): The plan.
    """

    def __init__(self, plan: Plan):
        self.plan = plan
        self.runs = runs_of(plan)
        for run in self.runs.values():
            as_arguments(with_roots(plan, run.options))  # now, not in a job
        self.data: dict[str, Verdict] = {}
        self.check_data()
        self._statuses: dict[str, Status] = {}

    def check_data(self) -> None:
        """Look for the data again."""
        for name, data in self.plan.data.items():
            self.data[name] = check(data)

    def folder(self, run: Run) -> Folder:
        """Where a run keeps its files."""
        return Folder(Path(self.plan.work_dir) / run.name)

    def status(self, run: Run) -> Status:
        """Judge a run, once; what it needs is judged first."""
        if run.name not in self._statuses:
            self._statuses[run.name] = self._judge(run)
        return self._statuses[run.name]

    def forget(self) -> None:
        """Judge all runs again: something has happened."""
        self._statuses.clear()

    def needed(self, run: Run) -> Status | None:
        """The status of the run whose checkpoint a run starts from."""
        return self.status(run.before) if run.before else None

    def checkpoint(self, run: Run) -> Path:
        """The checkpoint of a complete run."""
        name = self.status(run).metrics['checkpoint']['name']
        return self.folder(run).path / name

    def _judge(self, run: Run) -> Status:
        folder = self.folder(run)
        if folder.is_running():
            return Status(State.RUNNING, folder.last_line())
        return self.judge_files(run)

    def judge_files(self, run: Run) -> Status:
        """Judge a run that nobody else has, by its files alone."""
        folder = self.folder(run)
        try:
            changed = self._changed(run, folder.read('run.json'))
        except DamagedError as error:
            # Whatever lies there may be of another run.
            return Status(State.STALE, str(error))
        if changed:
            return Status(State.STALE, changed)
        try:
            metrics = folder.read('metrics.json')
        except DamagedError as error:
            return Status(State.DAMAGED, str(error))
        if metrics is None:
            return self._judge_unfinished(run, folder)
        changed = self._changed(run, metrics)
        if changed:
            return Status(State.STALE, changed)
        return self._judge_result(folder, metrics)

    def _changed(self, run: Run, record: dict | None) -> str:
        """How what a run was started for differs from what is asked now."""
        if record is None:
            return ''
        what = difference(record['settings'], settings_of(run))
        needed = self.needed(run)
        if what or needed is None:
            return what
        if needed.state is State.STALE:
            return f'{run.needs} is stale'
        if needed.metrics is None:
            return ''
        old = record['start_sha256']
        now = needed.metrics['checkpoint']['sha256']
        if old == now:
            return ''
        return (
            f'it started from another checkpoint of {run.needs} (sha256 '
            f'{old:.12}) than there is now ({now:.12})'
        )

    def _judge_result(self, folder: Folder, metrics: dict) -> Status:
        known = metrics['checkpoint']
        if known is None:
            return Status(State.COMPLETE, metrics=metrics)
        path = folder.path / known['name']
        if not path.is_file():
            return Status(State.LOST, f'there is no {path}', metrics)
        if not is_same_file(path, known):
            return Status(
                State.STALE,
                f'{path} is not the file that {folder.metrics_file} names '
                f'(sha256 {known["sha256"]:.12})',
            )
        return Status(State.COMPLETE, metrics=metrics)

    def _judge_unfinished(self, run: Run, folder: Folder) -> Status:
        missing = [
            self.data[name].sentence
            for name in run.data
            if not self.data[name].is_complete
        ]
        if missing:
            return Status(State.NO_DATA, '; '.join(dict.fromkeys(missing)))
        newest = folder.newest_checkpoint()
        needed = self.needed(run)
        if needed and not newest and needed.state is not State.COMPLETE:
            lost = ', whose checkpoint is missing'
            lost = lost if needed.state is State.LOST else ''
            return Status(State.WAITING, f'for {run.needs}{lost}')
        try:
            attempts = folder.read('attempts.json') or []
        except DamagedError as error:
            return Status(State.DAMAGED, str(error))
        if not attempts:
            return Status(State.READY)
        resume = f'resumes from {newest.name}' if newest else 'starts over'
        if attempts[-1]['exit'] in (None, 0, STOPPED):
            return Status(State.INTERRUPTED, resume)
        return Status(
            State.FAILED, f'{attempts[-1]["error"]} (see {folder.log_file})'
        )
