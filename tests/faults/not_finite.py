"""Values that are not finite stop a run and are never saved."""

import re
from dataclasses import replace

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from tests.faults import checkpoints, recipes
from tests.faults.lab import Case

INTERVAL = 5  # iterations between lines of the log
AT = 23  # iteration before which a value is poisoned
SPARSE = {'default_hooks.logger.interval': INTERVAL}


@HOOKS.register_module()
class PoisonHook(Hook):
    """Write NaN into 'images' of a batch, or a tensor of the model.

    It happens after ``at`` iterations, in one process if ``rank`` is given.
    """

    def __init__(self, at: int, what: str, rank: int | None = None):
        self.at, self.what, self.rank = at, what, rank

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter != self.at or self.rank not in (None, runner.rank):
            return
        if self.what == 'images':
            inputs = data_batch['inputs']
            inputs[0] = inputs[0].float()
            inputs[0][0, 0, 0, 0] = torch.nan
            return
        model = getattr(runner.model, 'module', runner.model)
        value = model.state_dict()[self.what]
        value[(0,) * value.dim()] = torch.nan


def spoiled(recipe, name, **changes):
    """Describe a run that does not stay finite, with few lines in its log."""
    changes = {**recipe.changes, **SPARSE, **changes}
    return replace(recipe, name=f'{recipe.name}, {name}', changes=changes)


def stopped(lab, folder, recipe, at, within):
    """Check that it stops soon, says where, and saves nothing bad."""
    work_dir = folder / 'run'
    launch = lab.launch(recipe, work_dir)
    message = launch.refusal('finite|nan', 'iteration')
    # Names of folders have numbers as well.
    message = message.replace(f'{folder}/', '').replace(f'{lab.folder}/', '')
    bad = checkpoints.damaged(work_dir)
    assert not bad, f'{bad}; {message}'
    if at is not None:
        numbers = [int(n) for n in re.findall(r'\b\d+\b', message)]
        near = range(at, at + within + 2)
        assert set(numbers) & set(near), f'not in {near}: {message}'
        saved = checkpoints.progress(work_dir, recipe.length)
        assert at - recipe.interval <= saved <= at, f'{saved} saved; {message}'
    return message


def poisoned(recipe, what, rank=None):
    """Describe a run in which one value becomes NaN."""
    hook = dict(type='PoisonHook', at=AT, what=what, rank=rank)
    imports = ['pixcon_mm', 'tests.faults.not_finite']
    if not recipe.pretrained:
        imports += ['pixcon_mm.models', 'pixcon_mm.datasets']
    changes = {'custom_hooks': [hook], 'custom_imports.imports': imports}
    return spoiled(recipe, what.replace('.', '-'), **changes)


def diverging(recipe, rate):
    """Describe a run whose learning rate is far too large."""
    constant = dict(type='ConstantLR', factor=1, by_epoch=False, end=1)
    changes = {'optim_wrapper.optimizer.lr': rate}
    name = f'rate {rate:g}'
    return spoiled(recipe, name, **changes, param_scheduler=[constant])


# Batch statistics are used in training, so no loss shows this one: it is found
# before the next checkpoint at the latest.
SEGMENTATION = recipes.SEGMENTATION
STATISTIC = 'backbone.layer3.0.bn1.running_var'
RUNS = (
    (poisoned(recipes.TWO, 'images', rank=1), AT, INTERVAL),
    (poisoned(SEGMENTATION, STATISTIC), AT, SEGMENTATION.interval),
    (diverging(recipes.TWO, 1e6), None, INTERVAL),
    (diverging(recipes.DETECTION, 1e8), None, INTERVAL),
)
CASES = [Case('not finite', recipe, stopped, args) for recipe, *args in RUNS]
