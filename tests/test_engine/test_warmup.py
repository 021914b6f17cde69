"""The learning rate of every step against docs/method.md's closed form."""

import math

import pytest
import torch
from mmengine.registry import PARAM_SCHEDULERS

import pixcon_mm.engine  # noqa: F401
from pixcon_mm import cli
from tests.recipes import load

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


def closed_form(iteration, epoch_length, epochs, warm_epochs):
    """Compute the rate as in docs/method.md, section 9."""
    epoch = iteration // epoch_length
    rate = 0.2 * (1 + math.cos(math.pi * epoch / epochs))
    warm = warm_epochs * epoch_length
    if iteration < warm:
        rate *= 1 - (1 - iteration / warm) * (1 - START)
    return rate


def check(cfg, epoch_length, length, *form):
    """Compare all iterations of so many epochs with the closed form."""
    assert cfg.optim_wrapper.optimizer.lr == 0.4
    found = list(rates(cfg.param_scheduler, epoch_length, length))
    assert len(found) == length * epoch_length
    for i, rate in enumerate(found):
        expected = closed_form(i, epoch_length, *form)
        assert abs(rate / expected - 1) < 1e-11, i


@pytest.mark.parametrize(
    ('name', 'epoch_length', 'length'),
    [
        # 118,287 images in batches of 512; and to the end.
        ('pixcon_r50_coco', 231, WARM_EPOCHS + 2),
        ('pixcon_r50_coco', 3, EPOCHS),
        ('pixcon_r50_1gpu_coco', 924, WARM_EPOCHS + 2),
        ('pixcon_r50_coco-plus', 472, WARM_EPOCHS + 2),
    ],
)
def test_rate_of_every_iteration(name, epoch_length, length):
    check(load(f'pretrain/{name}'), epoch_length, length, EPOCHS, WARM_EPOCHS)


@pytest.mark.parametrize(
    ('epochs', 'warmup'),
    [(1600, 4), (200, 4), (40, 4), (20, 2), (9, 1), (1, 1)],
)
def test_another_length_of_the_main_recipe(epochs, warmup):
    """Warm-up to the full rate, and a cosine to the end of the run."""
    cfg = load('pretrain/pixcon_r50_coco')
    cli.set_epochs(cfg, epochs)
    assert cfg.train_cfg.max_epochs == epochs
    check(cfg, 3, epochs, epochs, warmup)
