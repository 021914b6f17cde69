"""Hooks that runs of the campaign load from their configs."""

import json
from pathlib import Path

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS


@HOOKS.register_module()
class PoisonHook(Hook):
    """Writes NaN into a tensor before an iteration.

    Args:
        at (int): Iterations before it.
        what (str): 'images' of the batch, or a name in the model's
            ``state_dict``.
        rank (int, optional): The only process that does it; all if None.
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


@HOOKS.register_module()
class RecordLossHook(Hook):
    """Appends the losses of each iteration to ``losses-RANK.jsonl``."""

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ):
        losses = {name: value.item() for name, value in outputs.items()}
        path = Path(runner.work_dir) / f'losses-{runner.rank}.jsonl'
        with path.open('a') as file:
            file.write(json.dumps(losses) + '\n')
