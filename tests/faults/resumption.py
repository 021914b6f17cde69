"""A run that broke off, and its continuation."""

import shutil

from tests.faults import checkpoints, recipes
from tests.faults.recipes import Recipe

RECIPE = recipes.EPOCHS
KEPT = 6  # epochs; the others are trained again


def broken_off(lab, folder, recipe: Recipe = RECIPE):
    """A copy of a run that ended before its last two checkpoints."""
    work_dir = folder / 'run'
    shutil.copytree(lab.unbroken(recipe).work_dir, work_dir)
    at = recipe.total - 2 * recipe.interval
    newest = checkpoints.cleared(work_dir, recipe.length, at)
    (work_dir / 'last_checkpoint').write_text(str(newest))
    return work_dir, newest


def resumed(lab, work_dir, *options, recipe: Recipe = RECIPE):
    """Resume to the end; the launch and its exit status."""
    launch = lab.launch(recipe, work_dir, '--resume', *options)
    return launch, launch.end()


def first(launch) -> int:
    """Iteration that a launch began after."""
    return launch.positions()[0] - 1
