"""Twenty steps with the fast options and without give the same model."""

from functools import cache

import pytest
import torch
from mmpretrain.registry import MODELS

from benchmarks.release import as_released, sgd_by_parameter
from tests import needs_compiler
from tests.test_models import tiny

# Embeddings that are hardly apart yet, through batch norm over six of them,
# would magnify rounding by hundreds; the backbone keeps its batch norms.
NORM = dict(type='GN', num_groups=1)
# With a pool in front of them, the shortcuts have no stride: with one, a
# network as narrow as this is not run in channels-last.
MODEL = dict(
    backbone=dict(tiny.RESNET, avg_down=True),
    neck_norm=NORM,
    head=dict(norm_cfg=NORM),
)
SGD = dict(momentum=0.9, weight_decay=1e-4)
STEPS = 20
# Learning rate and relative tolerance. A match that flips by rounding sends a
# run elsewhere; in single precision, steps must be small to keep them all.
SETTINGS = {torch.float32: (2e-5, 1e-5), torch.float64: (0.05, 1e-10)}


def slow(cfg):
    model = as_released(cfg)
    return model, sgd_by_parameter(model, foreach=False, **SGD)


def fast(backend, sgd=None, **options):
    def make(cfg):
        cfg['head']['loss']['backend'] = backend
        model = MODELS.build(dict(cfg, **options))
        return model, tiny.sgd(model, **SGD, **(sgd or {}))

    return make


OPTIONS = dict(
    fused_loss=fast('fused'),
    chunked_loss=fast('chunked'),
    channels_last=fast('chunked', channels_last=True),
    foreach_sgd=fast('chunked', dict(foreach=True)),
    fused_sgd=fast('chunked', dict(fused=True)),
    all=fast('auto', dict(fused=True), channels_last=True),
)


def train(make, dtype):
    """Losses of twenty steps and what they leave behind."""
    torch.manual_seed(0)
    model, optimizer = make(tiny.model_config(**MODEL))
    torch.manual_seed(1)
    model.init_weights()
    model.to(dtype).train()
    for group in optimizer.param_groups:
        group['lr'] = SETTINGS[dtype][0]
    losses = []
    for step in range(STEPS):
        data = model.data_preprocessor(tiny.batch(size=6, seed=step), True)
        data['inputs'] = [view.to(dtype) for view in data['inputs']]
        loss = sum(model.loss(**data).values())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        model.after_optimizer_step(step / STEPS)
        losses.append(loss.detach())
    return torch.stack(losses), model.state_dict()


@cache
def slowly(dtype):
    return train(slow, dtype)


def kind(name):
    if 'running' in name:
        return 'statistics'
    return 'queues' if 'queue' in name else 'weights'


def assert_same(actual, expected, dtype):
    (losses, state), (slow_losses, slow_state) = actual, expected
    tolerance = SETTINGS[dtype][1]
    assert losses.dtype == dtype
    torch.testing.assert_close(losses, slow_losses, rtol=tolerance, atol=0)
    assert state.keys() == slow_state.keys()
    names = [n for n, value in state.items() if value.is_floating_point()]
    for part in ('weights', 'statistics', 'queues'):
        ours, theirs = (
            torch.cat([s[n].flatten() for n in names if kind(n) == part])
            for s in (state, slow_state)
        )
        assert (ours - theirs).norm() < tolerance * theirs.norm(), part


# Both losses and all options at once; the tests of each alone are slow.
QUICK = ('chunked_loss', 'all')


@pytest.mark.parametrize(
    ('option', 'dtype'),
    [
        pytest.param(
            *(option, dtype),
            marks=()
            if option in QUICK and dtype == torch.float64
            else pytest.mark.slow,
        )
        for option in OPTIONS
        for dtype in SETTINGS
    ],
    ids=str,
)
def test_an_option_changes_nothing(option, dtype):
    assert_same(train(OPTIONS[option], dtype), slowly(dtype), dtype)


@pytest.mark.slow
@needs_compiler
def test_compiling_changes_nothing():
    compiled = train(fast('auto', compile_backbone=True), torch.float32)
    assert_same(compiled, slowly(torch.float32), torch.float32)
