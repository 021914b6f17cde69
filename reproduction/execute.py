"""Run what can run here, in order, each once."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from difflib import get_close_matches as close
from fnmatch import fnmatch
from pathlib import Path

import torch

from pixcon_mm.errors import UserError
from reproduction.attempt import attempt, conclude, note_failure
from reproduction.command import command, readable
from reproduction.folder import Folder
from reproduction.runs import Run
from reproduction.settings import read_configs_anew
from reproduction.state import (
    RUNNABLE,
    TO_REDO,
    State,
    Status,
    Survey,
)

WAIT = 2.0  # seconds between two looks at what another process runs


@dataclass(frozen=True)
class Choice:
    """Which runs are meant, and how they run.

    Args:
        only (tuple[str, ...]): Patterns of names, as a shell has them; all
            runs if there is none.
        gpus (int, optional): Processes of each, instead of the plan's.
        redo (bool): Whether runs that are stale or have lost their
            checkpoint are done again; old files of the stale are kept.
    """

    only: tuple[str, ...] = ()
    gpus: int | None = None
    redo: bool = False

    def has(self, run: Run) -> bool:
        """Whether a run is meant."""
        return not self.only or any(fnmatch(run.name, p) for p in self.only)

    def pick(self, runs: dict[str, Run]) -> list[Run]:
        """The runs that are meant.

        Raises:
            UserError: If there is none.
        """
        meant = [run for run in runs.values() if self.has(run)]
        if not meant:
            names = [name for p in self.only for name in close(p, runs)]
            raise UserError(
                f'No run matches {" ".join(self.only)}; there is, for example,'
                f' {(names or list(runs))[0]}.'
            )
        return meant

    def processes(self, run: Run) -> int:
        """Processes of a run, a GPU each; 0 for one without a launcher."""
        return run.gpus if self.gpus is None else self.gpus


def make_data(
    survey: Survey, choice: Choice, say: Callable[[str], None]
) -> None:
    """Make what the plan can make of the data that its runs lack."""
    for name, data in survey.plan.data.items():
        is_used = any(
            name in run.data and choice.has(run)
            for run in survey.runs.values()
        )
        if not (data.make and is_used):
            continue
        folder = Folder(Path(survey.plan.work_dir) / 'data' / name)
        while not survey.data[name].is_complete:
            with folder.locked() as lock:
                survey.check_data()  # another process may have made them
                if lock is not None and not survey.data[name].is_complete:
                    say(f'{name}: {survey.data[name].sentence}')
                    say(f'{name}: python {data.make}')
                    make = [sys.executable, *data.make.split()]
                    # The lock goes with it, as with a run's command.
                    subprocess.run(make, check=True, pass_fds=(lock,))
                    survey.check_data()
                    if not survey.data[name].is_complete:
                        raise UserError(
                            f'{data.make} has run, and still: '
                            f'{survey.data[name].sentence}'
                        )
            if lock is None:
                time.sleep(WAIT)


def execute(
    survey: Survey,
    choice: Choice,
    say: Callable[[str], None],
    watch: Callable[[str, str], None] = lambda *_: None,
) -> bool:
    """Run all that is meant, not complete and possible.

    Several processes can do so at once: each run is locked while it runs.
    One that another process has is waited for.

    Args:
        survey (Survey): The plan and its state.
        choice (Choice): Which runs, and how.
        say (Callable): Told what happens, a line each.
        watch (Callable): Told a run's name and the last line of its log.

    Returns:
        bool: Whether all that is meant is complete in the end.
    """
    meant = choice.pick(survey.runs)
    make_data(survey, choice, say)
    fitting = [run for run in meant if fits(choice.processes(run))]
    tried: set[str] = set()
    while True:
        survey.forget()
        ready = [
            run
            for run in fitting
            if run.name not in tried
            and is_wanted(survey, run, survey.status(run), choice)
        ]
        done = next(
            (r for r in ready if run_one(survey, r, choice, say, watch)), None
        )
        if done:
            tried.add(done.name)
            continue
        survey.forget()
        states = {survey.status(run).state for run in meant}
        if State.RUNNING not in states and not ready:
            break
        time.sleep(WAIT)
    unfit = [
        run
        for run in meant
        if run not in fitting
        and is_wanted(survey, run, survey.status(run), choice)
    ]
    for run in unfit:
        say(
            f'{run.name}: wants {choice.processes(run)} GPUs, this machine '
            f'has {torch.cuda.device_count()}: choose another number with '
            '--gpus (0 for one process, on a CPU too; the total batch stays), '
            'or submit.'
        )
    # One that has lost its checkpoint has given its result.
    return states <= {State.COMPLETE, State.LOST}


def is_wanted(
    survey: Survey, run: Run, status: Status, choice: Choice
) -> bool:
    """Whether a run is to be run, now that all is as it is."""
    if status.state in TO_REDO:
        if not choice.redo:
            return False
    elif status.state not in RUNNABLE:
        return False
    needed = survey.needed(run)
    if needed is None or needed.state is State.COMPLETE:
        return True
    # A run that resumes from its own checkpoint does not read the lost one.
    has_begun = survey.folder(run).newest_checkpoint() is not None
    return needed.state is State.LOST and has_begun and run.kind != 'test'


def fits(processes: int) -> bool:
    """Whether this machine has the GPUs that a run wants."""
    return processes <= torch.cuda.device_count() or processes <= 1


def run_one(
    survey: Survey,
    run: Run,
    choice: Choice,
    say: Callable[[str], None],
    watch: Callable[[str, str], None],
) -> bool:
    """Run one run, if no other process has it.

    Returns:
        bool: Whether it was run here, well or not.
    """
    folder = survey.folder(run)
    with folder.locked() as lock:
        if lock is None:
            return False
        # Another process may have been faster, a config may have been edited.
        read_configs_anew()
        survey.forget()
        status = survey.judge_files(run)
        if not is_wanted(survey, run, status, choice):
            return False
        if status.state is State.STALE:
            say(f'{run.name}: the old one is now {folder.set_aside()}')
        try:
            error = start_and_conclude(survey, run, choice, lock, say, watch)
        except UserError as mistake:
            # It is this run's alone: others continue.
            error = str(mistake)
            note_failure(folder, error)
    say(f'{run.name}: {f"failed: {error}" if error else "complete"}')
    return True


def start_and_conclude(
    survey: Survey,
    run: Run,
    choice: Choice,
    lock: int,
    say: Callable[[str], None],
    watch: Callable[[str, str], None],
) -> str | None:
    """Run one run that is locked; gives what went wrong, in a sentence."""
    folder = survey.folder(run)
    needed = survey.needed(run)
    start = needed.metrics['checkpoint']['sha256'] if needed else None
    processes = choice.processes(run)
    line = command(survey, run, processes)
    say(f'{run.name}: {readable(line)}')
    error = attempt(
        run,
        folder,
        line,
        max(processes, 1),
        lock,
        start,
        lambda text: watch(run.name, text),
    )
    if error is None:
        conclude(run, folder, start)
    return error
