"""The learning rate of every step against the release's closed form."""

import math
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS

import pixcon_mm.engine  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]
EPOCHS, WARM_EPOCHS, START = 800, 4, 1e-4


def rates(schedulers, epoch_length, epochs):
    """Rate of each iteration, stepped as ParamSchedulerHook does."""
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
    """Reference file, section 3.1."""
    epoch = iteration // epoch_length
    rate = 0.2 * (1 + math.cos(math.pi * epoch / EPOCHS))
    warm = WARM_EPOCHS * epoch_length
    if iteration < warm:
        rate *= 1 - (1 - iteration / warm) * (1 - START)
    return rate


def load(name):
    path = ROOT / f'configs/pretrain/{name}.py'
    return Config.fromfile(path, import_custom_modules=False)


def worst(schedulers, epoch_length, epochs):
    """Largest relative deviation over all iterations."""
    found = list(rates(schedulers, epoch_length, epochs))
    assert len(found) == epochs * epoch_length
    wanted = [closed_form(i, epoch_length) for i in range(len(found))]
    return max(
        abs(rate / right - 1)
        for rate, right in zip(found, wanted, strict=True)
    )


def test_whole_schedule_of_the_main_recipe():
    cfg = load('pixcon_r50_coco')
    # 118,287 images in batches of 512.
    epoch_length = 118_287 // 512
    assert epoch_length * cfg.train_cfg.max_epochs == 184_800
    assert cfg.optim_wrapper.optimizer.lr == 0.4
    assert worst(cfg.param_scheduler, epoch_length, EPOCHS) < 1e-12


@pytest.mark.parametrize(
    ('name', 'epoch_length'),
    [('pixcon_r50_1gpu_coco', 924), ('pixcon_r50_coco-plus', 472)],
)
def test_warm_up_of_other_lengths(name, epoch_length):
    schedulers = load(name).param_scheduler
    assert worst(schedulers, epoch_length, WARM_EPOCHS + 2) < 1e-12


def test_linear_lr_would_not_do():
    """Why there is a class of ours."""
    schedulers = load('pixcon_r50_coco').param_scheduler
    schedulers[0].type = 'LinearLR'
    assert worst(schedulers, 231, WARM_EPOCHS + 2) > 1e-4
