"""The learning rate of every step against docs/method.md's closed form."""

import math

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS

import pixcon_mm.engine  # noqa: F401
from tests import ROOT

EPOCHS, WARM_EPOCHS, START = 800, 4, 1e-4


def rates(schedulers, epoch_length, epochs):
    """Yield the rate of each iteration, stepped as MMEngine does."""
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=0.4)
    built = [
        PARAM_SCHEDULERS.build(
            scheduler,
            default_args=dict(optimizer=optimizer, epoch_length=epoch_length),
        )
        for scheduler in schedulers
    ]
    for _ in range(epochs):
        for _ in range(epoch_length):
            yield optimizer.param_groups[0]['lr']
            for scheduler in built:
                if not scheduler.by_epoch:
                    scheduler.step()
        for scheduler in built:
            if scheduler.by_epoch:
                scheduler.step()


def closed_form(iteration, epoch_length):
    """Compute the rate as in docs/method.md, section 9."""
    epoch = iteration // epoch_length
    rate = 0.2 * (1 + math.cos(math.pi * epoch / EPOCHS))
    warm = WARM_EPOCHS * epoch_length
    if iteration < warm:
        rate *= 1 - (1 - iteration / warm) * (1 - START)
    return rate


def worst(name, epoch_length, epochs, warmup='WarmupLR'):
    """Find the largest relative deviation over all iterations."""
    path = ROOT / f'configs/pretrain/{name}.py'
    cfg = Config.fromfile(path, import_custom_modules=False)
    assert cfg.optim_wrapper.optimizer.lr == 0.4
    cfg.param_scheduler[0].type = warmup
    found = list(rates(cfg.param_scheduler, epoch_length, epochs))
    assert len(found) == epochs * epoch_length
    return max(
        abs(rate / closed_form(i, epoch_length) - 1)
        for i, rate in enumerate(found)
    )


@pytest.mark.parametrize(
    ('name', 'epoch_length', 'epochs'),
    [
        # 118,287 images in batches of 512.
        ('pixcon_r50_coco', 231, EPOCHS),
        ('pixcon_r50_1gpu_coco', 924, WARM_EPOCHS + 2),
        ('pixcon_r50_coco-plus', 472, WARM_EPOCHS + 2),
    ],
)
def test_rate_of_every_iteration(name, epoch_length, epochs):
    assert worst(name, epoch_length, epochs) < 1e-12
