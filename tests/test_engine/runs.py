"""Toy runs that are stopped, changed and resumed, and a record of each.

A run has 8 images in batches of 2, so 4 iterations an epoch, for 2 epochs.
"""

import copy
import itertools
import random
from pathlib import Path

import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, MODELS
from torch.utils.data import Dataset

from pixcon_mm.engine import PixConRunner
from tests import toy

LENGTH = 4
NUMBERS = itertools.count()
ITERATIONS = dict(
    train_cfg=dict(_delete_=True, by_epoch=False, max_iters=8),
    train_dataloader=dict(sampler=dict(type='InfiniteSampler')),
    log_processor=dict(by_epoch=False),
)
ACCUMULATED = dict(optim_wrapper=dict(accumulative_counts=3))


def hook(**options):
    """Set options of the checkpoint hook."""
    return dict(default_hooks=dict(checkpoint=options))


NEVER = hook(interval=99)
EPOCHS = hook(by_epoch=True)


class Killed(Exception):
    """Stands for a kill, after which nothing else is done."""


def draws():
    """Take a number from each generator."""
    return random.random(), np.random.rand(), torch.rand(()).item()


@DATASETS.register_module()
class RandomVectors(Dataset):
    """Vectors from every generator; notes which index is read, in a file."""

    def __init__(self, size, notes=None):
        self.size, self.notes, self.scale = size, notes, 1

    def __len__(self):
        return self.size

    def get_data_info(self, index):
        """Mix upright and lying images, for samplers that ask."""
        return dict(width=2, height=1 + 2 * (index % 3 == 0))

    def __getitem__(self, index):
        if self.notes:
            with open(self.notes, 'a') as file:
                file.write(f'{index}\n')
        number = self.scale * index / self.size
        return dict(inputs=torch.tensor([*draws(), number]))


@MODELS.register_module()
class DropoutModel(toy.ToyModel):
    """Drops inputs, and has noise in a loss."""

    def forward(self, inputs, mode='loss'):
        if mode == 'loss':
            inputs = [torch.nn.functional.dropout(x, 0.5) for x in inputs]
        losses = super().forward(inputs, mode)
        if mode == 'loss':
            losses['loss_noise'] = losses['loss_dense'] * draws()[0]
        return losses


class Recorder(Hook):
    """Batches and states of a run at each iteration, from 1."""

    priority = 'NORMAL'

    def __init__(self):
        self.images, self.groups, self.states = {}, {}, {}

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        now = runner.iter + 1
        self.images[now] = torch.stack(data_batch['inputs'])
        self.groups[now] = [
            {k: v for k, v in group.items() if k in ('lr', 'momentum')}
            for group in runner.optim_wrapper.param_groups
        ]

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=()):
        self.states[runner.iter + 1] = state(runner)


class AfterEpoch(Hook):
    """Calls a function of the runner after each epoch."""

    def __init__(self, call):
        self.call = call

    def after_train_epoch(self, runner):
        self.call(runner)


class At(Hook):
    """Calls a function of the runner at the end of an iteration."""

    priority = 'NORMAL'

    def __init__(self, iteration, call):
        self.iteration, self.call = iteration, call

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=()):
        if runner.iter + 1 == self.iteration:
            self.call(runner)


def config(folder, name, *changes):
    """Load the toy recipe, with checkpoints after all iterations."""
    cfg = Config.fromfile(toy.write_config(folder))
    cfg.work_dir = str(folder / name)
    # Runners of one name would share their logger and their history.
    cfg.experiment_name = f'{folder.name}-{next(NUMBERS)}'
    cfg.optim_wrapper = dict(
        type='OptimWrapper',
        optimizer=dict(type='SGD', lr=0.1, momentum=0.9, weight_decay=0.01),
    )
    cfg.param_scheduler = None
    cfg.model.type = 'DropoutModel'
    cfg.train_dataloader.dataset.type = 'RandomVectors'
    cfg.default_hooks = dict(
        runtime_info=dict(type='DeferredRuntimeInfoHook'),
        reproducible_resume=dict(type='ReproducibleResumeHook'),
        logger=dict(type='LoggerHook', interval=1),
        # These do nothing for models such as the toy.
        key_encoder=dict(type='KeyEncoderUpdateHook'),
        monitors=dict(type='MonitorHook'),
        checkpoint=dict(
            type='WholeCheckpointHook', by_epoch=False, interval=1
        ),
    )
    for change in changes:
        cfg.merge_from_dict(copy.deepcopy(change))
    return cfg


def end_workers(runner):
    """Let go of the iterator of a run's loader, and so end its workers.

    The garbage collector would wait five seconds for each.
    """
    loop = runner.train_loop
    for name in ('dataloader_iterator', '_iterator'):
        vars(loop).pop(name, None)
    loop.dataloader._iterator = None


def train(cfg, *hooks, recorded=True):
    """Run a config; returns the runner and its recorder."""
    runner = PixConRunner.from_cfg(cfg)
    recorder = Recorder()
    for extra in (*[recorder] * recorded, *hooks):
        runner.register_hook(extra)
    runner.train()
    end_workers(runner)
    return runner, recorder


def resume(cfg, path=None, *hooks):
    """Continue from a checkpoint, the newest if none is named."""
    cfg.resume, cfg.load_from = True, path and str(path)
    return train(cfg, *hooks)


def checkpoint(runner, name):
    return Path(runner.work_dir) / f'{name}.pth'


def names(runner_or_folder):
    """List the checkpoints of a run."""
    folder = getattr(runner_or_folder, 'work_dir', runner_or_folder)
    return sorted(path.name for path in Path(folder).glob('*.pth'))


def log_of(runner):
    (log,) = Path(runner.log_dir).glob('*.log')
    return log.read_text()


def state(runner):
    """Copy all tensors of a run, by name."""
    tensors = dict(runner.model.state_dict())
    buffers = runner.optim_wrapper.optimizer.state_dict()['state']
    for index, slots in buffers.items():
        for name, value in slots.items():
            tensors[f'{name} of {index}'] = value
    return {name: tensor.clone() for name, tensor in tensors.items()}


def is_same(first, second):
    """Compare two states, bit for bit."""
    assert any(name.startswith('momentum') for name in first)
    return first.keys() == second.keys() and all(
        torch.equal(tensor, second[name]) for name, tensor in first.items()
    )


def assert_continues(part, whole, start):
    """Compare all iterations of a run that was resumed after ``start``."""
    assert list(part.states) == list(whole.states)[start:]
    for now in part.states:
        assert torch.equal(part.images[now], whole.images[now]), now
        assert part.groups[now] == whole.groups[now], now
        assert is_same(part.states[now], whole.states[now]), now
