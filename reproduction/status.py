"""Status of the data and the runs of a plan, judged by their files."""

from __future__ import annotations

import enum
import glob
import os
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from pixcon_mm.processes import STOPPED
from reproduction.plan import Data, Plan
from reproduction.run_dir import (
    Cost,
    DamagedError,
    RunDir,
    add_costs,
    cost_of,
    is_same_file,
)
from reproduction.runs import SCORED, Run, difference, runs_of, settings_of


@dataclass(frozen=True)
class DataCheck:
    """Result of a check of one tree of files."""

    data: Data
    found: dict[str, int]  # number of files by pattern
    error: str = ''  # why files could not be counted

    @property
    def is_complete(self) -> bool:
        """True if there are at least as many files as runs need."""
        return not self.error and all(
            self.found[pattern] >= expected
            for pattern, expected in self.data.files.items()
        )

    @property
    def sentence(self) -> str:
        """Line that says if the data are complete, and what differs."""
        if self.error:
            return f'missing: {self.error}'
        state = 'complete' if self.is_complete else 'incomplete'
        differences = [
            f'{pattern} has {self.found[pattern]:,} of {expected:,} files'
            for pattern, expected in self.data.files.items()
            if self.found[pattern] != expected
        ]
        total = f'{sum(self.found.values()):,} files'
        return f'{state}: {"; ".join(differences) or total}'

    @property
    def tree(self) -> str:
        """Description of the expected files, with a line for each pattern."""
        lines = [f'{self.data.root} should have']
        for pattern, expected in self.data.files.items():
            is_glob = glob.has_magic(pattern)
            count = f'  ({expected:,} files)' if is_glob else ''
            lines.append(f'    {Path(self.data.root, pattern)}{count}')
        return '\n'.join(lines)


def check_data_set(data: Data) -> DataCheck:
    """Count the files of a tree.

    Patterns are those of :mod:`glob`, where ``**`` stands for any number of
    folders. Links are followed; a broken link does not count.
    """
    if not os.path.isdir(data.root):
        return DataCheck(data, {}, f'there is no folder {data.root}')
    try:
        found = {p: _count(data.root, p) for p in data.files}
    except OSError as error:
        problem = f'{error.filename} cannot be opened ({error.strerror})'
        return DataCheck(data, {}, problem)
    return DataCheck(data, found)


def _count(root: str, pattern: str) -> int:
    folder, _, name = pattern.rpartition('/')
    place = os.path.join(glob.escape(root), folder, '')
    paths = glob.iglob(place, recursive=True)
    count = 0
    # A folder that is reached by several links counts once.
    for path in {os.path.realpath(p): p for p in paths}.values():
        with os.scandir(path) as entries:
            # This is fast, unlike a stat for each of 120,000 images.
            count += sum(
                fnmatchcase(entry.name, name)
                and (entry.name[0] == '.') == (name[0] == '.')
                and entry.is_file()
                for entry in entries
            )
    return count


class State(enum.Enum):
    """State of a run."""

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


# States in which a run can start or resume.
RUNNABLE = (State.READY, State.INTERRUPTED, State.FAILED, State.DAMAGED)
# States in which a run starts over, but only with --redo.
TO_REDO = (State.STALE, State.LOST)


@dataclass(frozen=True)
class Status:
    """Status of a run."""

    state: State
    why: str = ''  # what is wrong or missing, with names
    metrics: dict[str, Any] | None = None  # content of a valid metrics file


class PlanStatus:
    """Status of the data and of all runs of a plan, read from their files."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self.runs = runs_of(plan)
        self._statuses: dict[str, Status] = {}
        self.data: dict[str, DataCheck] = {}
        self.check_data()

    def check_data(self) -> None:
        """Check all data again."""
        for name, data in self.plan.data.items():
            self.data[name] = check_data_set(data)

    def run_dir(self, run: Run) -> RunDir:
        """Return the folder of a run."""
        return RunDir(Path(self.plan.work_dir) / run.name)

    def status(self, run: Run) -> Status:
        """Return the status of a run, kept until :meth:`forget`."""
        if run.name not in self._statuses:
            run_dir = self.run_dir(run)
            self._statuses[run.name] = (
                Status(State.RUNNING, run_dir.last_line())
                if run_dir.is_running()
                else self.judge_files(run)
            )
        return self._statuses[run.name]

    def adopt(self, results: dict[str, dict[str, Any]]) -> None:
        """Take results of runs whose folders are not here.

        Args:
            results (dict): What their metrics files had, by name of run.
        """
        for name, metrics in results.items():
            state = State.LOST if metrics['checkpoint'] else State.COMPLETE
            self._statuses[name] = Status(state, 'not run here', metrics)

    def forget(self) -> None:
        """Drop all statuses, because files may have changed."""
        self._statuses.clear()

    def parent(self, run: Run) -> Status | None:
        """Return the status of the run whose checkpoint a run starts from."""
        return self.status(run.parent) if run.parent else None

    def has_start(self, run: Run) -> bool:
        """Check if there is the checkpoint that a run starts from, if any.

        A training that has begun resumes from its own, and does not need its
        parent's if that was deleted.
        """
        parent = self.parent(run)
        if parent is None or parent.state is State.COMPLETE:
            return True
        if parent.state is not State.LOST or run.kind in SCORED:
            return False
        return self.run_dir(run).newest_checkpoint() is not None

    def checkpoint(self, run: Run) -> Path:
        """Return the checkpoint of a complete run."""
        name = self.status(run).metrics['checkpoint']['name']
        return self.run_dir(run).path / name

    def cost(self, runs: Iterable[Run]) -> Cost | None:
        """Sum up the cost of runs so far; None if nothing has run.

        It leaves out commands that went on after their `run` was killed.
        """
        costs = []
        for run in runs:
            metrics = self.status(run).metrics
            if metrics:
                costs.append(Cost(**metrics['cost']))
            else:
                attempts = self.run_dir(run).attempts()
                costs.append(cost_of(attempts, []))
        return add_costs(costs)

    def judge_files(self, run: Run) -> Status:
        """Determine the status from the files alone, without the lock."""
        run_dir = self.run_dir(run)
        try:
            record = run_dir.read('run.json')
            changed = self._changes(run, record)
        except DamagedError as error:
            # Without run.json, the settings of the other files are unknown.
            return Status(State.STALE, str(error))
        newest = run_dir.newest_checkpoint()
        if record is None and newest and run.kind not in SCORED:
            changed = f'{newest} is from another plan: there is no run.json'
        if changed:
            return Status(State.STALE, changed)
        try:
            metrics = run_dir.read('metrics.json')
            if metrics is None:
                return self._judge_unfinished(run, run_dir)
        except DamagedError as error:
            return Status(State.DAMAGED, str(error))
        changed = self._changes(run, metrics)
        if changed:
            return Status(State.STALE, changed)
        return self._judge_result(run_dir, metrics)

    def _changes(self, run: Run, record: dict | None) -> str:
        """Describe differences between a run's record and the plan now."""
        if record is None:
            return ''
        changed = difference(record['settings'], settings_of(run))
        parent = self.parent(run)
        if changed or parent is None:
            return changed
        if parent.state is State.STALE:
            return f'{run.parent.name} is stale'
        if parent.metrics is None:
            return ''
        old = record['parent_sha256']
        new = parent.metrics['checkpoint']['sha256']
        if old == new:
            return ''
        return (
            f'it started from another checkpoint of {run.parent.name} '
            f'(sha256 {old:.12}) than there is now ({new:.12})'
        )

    def _judge_result(self, run_dir: RunDir, metrics: dict) -> Status:
        known = metrics['checkpoint']
        if known is None:
            return Status(State.COMPLETE, metrics=metrics)
        path = run_dir.path / known['name']
        if not path.is_file():
            return Status(State.LOST, f'there is no {path}', metrics)
        if not is_same_file(path, known):
            return Status(
                State.STALE,
                f'{path} is not the file that metrics.json names (sha256 '
                f'{known["sha256"]:.12})',
            )
        return Status(State.COMPLETE, metrics=metrics)

    def _judge_unfinished(self, run: Run, run_dir: RunDir) -> Status:
        checks = [self.data[name] for name in run.data]
        missing = [c.sentence for c in checks if not c.is_complete]
        if missing:
            return Status(State.NO_DATA, '; '.join(dict.fromkeys(missing)))
        newest = run_dir.newest_checkpoint()
        parent = self.parent(run)
        if parent and not newest and parent.state is not State.COMPLETE:
            is_lost = parent.state is State.LOST
            lost = ', whose checkpoint is missing' if is_lost else ''
            return Status(State.WAITING, f'for {run.parent.name}{lost}')
        attempts = run_dir.read('attempts.json')
        if not attempts:
            return Status(State.READY)
        if attempts[-1]['exit'] in (None, 0, STOPPED):
            resume = 'resumes' if newest else 'starts over'
            return Status(State.INTERRUPTED, resume)
        error = attempts[-1]['error']
        log = run_dir.log_file  # not there if no command was started
        where = f' (see {log})' if log.is_file() else ''
        return Status(State.FAILED, f'{error}{where}')
