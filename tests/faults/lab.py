"""Data, configs and unbroken runs, made once and used by all cases."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from tests import ROOT
from tests.faults import checkpoints
from tests.faults.launches import Launch
from tests.faults.recipes import IMAGES, Recipe

SCALE = float(os.environ.get('FAULTS_SCALE', 1))


def scaled(count: int) -> int:
    """Scale a number of repetitions; at least one is left."""
    return max(1, round(count * SCALE))


class Case(NamedTuple):
    """A fault, the run that suffers it, and what must follow."""

    fault: str
    recipe: Recipe
    # Takes the lab, an empty folder, the recipe and ``args``. It says what
    # happened, or raises.
    check: Callable[..., str]
    args: tuple = ()

    def __str__(self) -> str:
        return f'{self.fault}: {self.recipe.name}'


class Unbroken(NamedTuple):
    """A run that nothing disturbed."""

    work_dir: Path
    final: Path  # the last checkpoint
    start: float  # seconds to the first iteration
    step: float  # seconds an iteration


class Lab:
    """Data, configs and runs in a folder, made when a case first asks."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.seed = int(os.environ.get('FAULTS_SEED', 0))
        self._made: dict[str, object] = {}

    def once(self, name: str, make):
        """Call a function only once for a name; return its result."""
        if name not in self._made:
            self._made[name] = make()
        return self._made[name]

    def data(self) -> Path:
        """Draw scenes with boxes, masks and labels."""
        return self.once('data', self._make_data)

    def _make_data(self) -> Path:
        tool = [sys.executable, ROOT / 'tools/make_demo_data.py']
        out = self.folder / 'data'
        subprocess.run(
            [*tool, '--out', out, '--train', str(IMAGES), '--val', '4'],
            check=True,
            capture_output=True,
        )
        return out

    def config(self, recipe: Recipe) -> Path:
        """Write the config of a recipe."""
        data = self.data()
        return self.once(
            f'config of {recipe.name}', lambda: recipe.write(self.folder, data)
        )

    def launch(
        self, recipe: Recipe, work_dir: Path, *options: str, **how
    ) -> Launch:
        """Start a recipe; its output goes into the folder of the case."""
        if recipe.pretrained:
            source = self.unbroken(recipe.pretrained).final
            options = ('--pretrained', str(source), *options)
        return Launch(
            self.config(recipe),
            work_dir,
            *options,
            log=self._log(work_dir),
            processes=recipe.processes,
            **how,
        )

    def _log(self, work_dir: Path) -> Path:
        """Choose a log file outside a work directory that may be full."""
        case = self.folder / work_dir.relative_to(self.folder).parts[0]
        case.mkdir(exist_ok=True)
        number = len(list(case.glob(f'{work_dir.name}.*.log'))) + 1
        return case / f'{work_dir.name}.{number}.log'

    def unbroken(self, recipe: Recipe) -> Unbroken:
        """Train without disturbance, and keep all checkpoints."""
        return self.once(recipe.name, lambda: self._train(recipe))

    def _train(self, recipe: Recipe) -> Unbroken:
        work_dir = self.folder / 'unbroken' / self.config(recipe).stem
        option = 'default_hooks.checkpoint.max_keep_ckpts=-1'
        run = self.launch(recipe, work_dir, '--cfg-options', option)
        assert run.wait_for_lines(1), run.tail()
        first = time.monotonic()
        assert run.end() == 0, run.tail()
        now = time.monotonic()
        final = work_dir / recipe.last
        assert checkpoints.is_finite(checkpoints.load(final))
        return Unbroken(
            work_dir,
            final,
            start=first - run.started,
            step=(now - first) / recipe.total,
        )

    def finished(self, recipe: Recipe, work_dir: Path) -> str:
        """Assert that a run ended as the unbroken one did."""
        found = checkpoints.differences(
            work_dir / recipe.last, self.unbroken(recipe).final
        )
        assert not found, f'{len(found)} differences: ' + ', '.join(found[:5])
        assert not checkpoints.unfinished(work_dir)
        return 'bit-equal'
