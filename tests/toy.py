"""A model and data that train in milliseconds, without MMPretrain."""

import os
import signal
import textwrap
from contextlib import contextmanager
from unittest import mock

import torch
from mmengine.logging import MessageHub, MMLogger
from mmengine.model import BaseModel
from mmengine.registry import DATA_SAMPLERS, DATASETS, MODELS, DefaultScope
from mmengine.visualization import Visualizer
from torch import nn
from torch.utils.data import BatchSampler, Dataset

from pixcon_mm.errors import UserError
from pixcon_mm.processes import SIGNALS

CONFIG = """
    custom_imports = dict(
        imports=['pixcon_mm', 'tests.toy'], allow_failed_imports=False
    )
    lr = 0.4
    size = 8
    model = dict(type='ToyModel')
    train_dataloader = dict(
        batch_size=2,
        num_workers=0,
        drop_last=True,
        sampler=dict(type='DefaultSampler', shuffle=True),
        dataset=dict(type='ToyImages', size=size),
    )
    optim_wrapper = dict(
        type='AmpOptimWrapper',
        loss_scale='dynamic',
        optimizer=dict(type='SGD', lr=lr),
    )
    param_scheduler = [
        dict(
            type='CosineAnnealingLR',
            T_max=2,
            end=2,
            by_epoch=True,
            convert_to_iter_based=True,
        )
    ]
    train_cfg = dict(by_epoch=True, max_epochs=2)
    default_hooks = dict(
        logger=dict(type='LoggerHook', interval=1),
        checkpoint=dict(type='CheckpointHook', interval=1),
    )
    log_processor = dict(type='ReadableLogProcessor')
    auto_scale_lr = dict(enable=False, base_batch_size=2)
    randomness = dict(seed=0)
"""


@contextmanager
def framework_state():
    """Undo what a runner leaves behind: scope, loggers, signal handlers."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    kinds = (DefaultScope, MMLogger, MessageHub, Visualizer)
    before = {kind: dict(kind._instance_dict) for kind in kinds}
    # Loggers of earlier tests would write to where those were captured.
    MMLogger._instance_dict.clear()
    try:
        # In tests, the process and its loaders outlive the end of a tool.
        with mock.patch('pixcon_mm.processes.torch_loading'):
            yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for kind, instances in before.items():
            kind._instance_dict.clear()
            kind._instance_dict.update(instances)


def write_config(folder):
    """Write the toy recipe and return its path."""
    path = folder / 'toy.py'
    path.write_text(textwrap.dedent(CONFIG))
    return path


class Code:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder / 'code was run'),)


@MODELS.register_module()
class ToyModel(BaseModel):
    """One linear layer and a SyncBN."""

    def __init__(self, fail_at=None, bad_rank=None):
        if bad_rank is not None and os.environ.get('RANK') == str(bad_rank):
            raise UserError('Only this process cannot find its data.')
        super().__init__()
        self.linear = nn.Linear(4, 3)
        self.norm = nn.SyncBatchNorm(3)
        self.steps, self.fail_at = 0, fail_at

    def forward(self, inputs, mode='loss'):
        """Two losses, or an error at a chosen step; features in a test."""
        if mode != 'loss':
            return list(self.linear(torch.stack(inputs)))
        if self.steps == self.fail_at:
            raise RuntimeError('a bug of ours')
        self.steps += 1
        out = self.norm(self.linear(torch.stack(inputs)))
        return dict(loss_image=(out**2).mean(), loss_dense=out[0, 0] ** 2)


@DATASETS.register_module()
class ToyImages(Dataset):
    """Random vectors."""

    def __init__(self, size):
        self.size = size

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        """A sample that depends on the index only."""
        generator = torch.Generator().manual_seed(index)
        return dict(inputs=torch.randn(4, generator=generator))


@DATA_SAMPLERS.register_module()
class ToyBatchSampler(BatchSampler):
    """Batches by a sampler, as MMDetection makes them."""

    def __init__(self, sampler, batch_size):
        super().__init__(sampler, batch_size, drop_last=True)
