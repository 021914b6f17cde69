"""Runs that are hit again and again, resumed each time, and compared."""

import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

from tests.faults import checkpoints
from tests.faults.lab import Lab
from tests.faults.launches import Launch
from tests.faults.recipes import Recipe

# How long a checkpoint takes to be written, synced, renamed, and the old one
# removed, with some to spare; tiny ones on a local disk.
WRITE = 0.06


def resumed(lab, work_dir, at: int, recipe: Recipe) -> str:
    """Resume to the end after an iteration; return how the end compares."""
    launch = lab.launch(recipe, work_dir, '--resume')
    status = launch.end()
    assert status == 0, f'exit {status}: {launch.tail()}'
    first = launch.positions()[0] - 1
    assert first == at, f'began after {first}, not {at}'
    return lab.finished(recipe, work_dir)


class Story:
    """A run of a recipe through several faults, at moments seeded by a name.

    ``folder`` gets the work directory and the output.
    """

    def __init__(self, lab: Lab, folder: Path, recipe: Recipe, name: str):
        self.lab, self.recipe = lab, recipe
        self.work_dir = folder / 'run'
        self.rng = random.Random(f'{lab.seed} {recipe.name} {name}')
        self.unbroken = lab.unbroken(recipe)
        self.launch: Launch | None = None
        self.done = 0

    @property
    def left(self) -> int:
        """Iterations that no checkpoint holds yet."""
        return self.recipe.total - self.done

    @property
    def margin(self) -> int:
        """Iterations at the end of a run that are left alone.

        Processes act on a signal a few iterations after it was sent: torchrun
        passes it on, and all of them have to agree.
        """
        return 3 if self.recipe.processes == 1 else 8

    def start(self, **how) -> Launch:
        """Start the run, or resume it after the first start."""
        options = ['--resume'] if self.launch else []
        self.launch = self.lab.launch(
            self.recipe, self.work_dir, *options, **how
        )
        return self.launch

    def moment(self, faults_left: int) -> int:
        """Choose after how many iterations of this start the fault comes.

        Faults spread over the run, and none comes at its last iterations,
        where the run might end before.
        """
        share = 2 * self.left / (faults_left + 1)
        latest = self.left - self.margin
        return self.rng.randint(1, max(1, min(round(share), latest)))

    def wait_in_training(self, faults_left: int) -> bool:
        """Wait for a moment between two lines of the log."""
        pause = self.rng.random() * self.unbroken.step
        hit = self.launch.wait_for_lines(self.moment(faults_left))
        time.sleep(pause)
        return hit

    def hits(self, times: int) -> Iterator[Launch]:
        """Start up to so many times; yield each start amid its training."""
        for faults_left in range(times, 0, -1):
            if self.left <= self.margin:
                return
            launch = self.start()
            assert self.wait_in_training(faults_left), launch.tail()
            yield launch
            self.check()

    def wait_in_start(self) -> None:
        """Wait for a moment before the first iteration, at most until it.

        The start may be faster than that of the unbroken run was.
        """
        pause = self.rng.random() * self.unbroken.start
        self.launch.wait_for(
            lambda: (
                time.monotonic() > self.launch.started + pause
                or self.launch.positions()
            )
        )

    def wait_in_write(self, faults_left: int) -> None:
        """Wait until a checkpoint is being written, or a little longer."""
        pause = self.rng.choice([0, self.rng.random() * WRITE])
        early = max(1, self.moment(faults_left) - self.recipe.interval)
        if not self.launch.wait_for_lines(early):
            return
        before = checkpoint_names(self.work_dir)
        self.launch.wait_for(
            lambda: not checkpoint_names(self.work_dir) <= before
        )
        time.sleep(pause)

    def check(self) -> None:
        """Assert that nothing is lost or damaged, and note the progress."""
        bad = checkpoints.damaged(self.work_dir)
        assert not bad, f'damaged checkpoints: {bad}'
        logged = self.launch.positions()
        if logged:
            assert logged[0] == self.done + 1, (
                f'{self.done} iterations were saved, and the run resumed '
                f'with number {logged[0]}'
            )
        before, length = self.done, self.recipe.length
        self.done = checkpoints.progress(self.work_dir, length)
        assert self.done >= before, (
            f'the checkpoint of iteration {before} is lost, the newest is '
            f'that of {self.done}'
        )
        if logged:
            # One more where a checkpoint waits for the optimiser's step.
            lost = logged[-1] - self.done
            assert lost <= self.recipe.interval + 1, f'{lost} iterations lost'

    def finish(self) -> str:
        """Resume to the end and compare with the unbroken run."""
        launch = self.start()
        status = launch.end()
        assert status == 0, f'exit {status}: {launch.tail()}'
        self.check()
        return self.lab.finished(self.recipe, self.work_dir)


def checkpoint_names(work_dir: Path) -> set[str]:
    """List checkpoints, also those that are being written."""
    try:
        names = os.listdir(work_dir)
    except FileNotFoundError:
        return set()
    return {name for name in names if name.endswith(('.pth', '.part'))}
