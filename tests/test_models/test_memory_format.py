"""A format that would corrupt memory is not taken."""

import logging
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.logging import MMLogger
from torch import nn

from pixcon_mm.models.memory_format import safe_memory_format

ROOT = Path(__file__).resolve().parents[2]
LAST, PLAIN = torch.channels_last, torch.contiguous_format


def conv(channels=4, kernel=1, stride=2, **kwargs):
    return nn.Sequential(nn.Conv2d(channels, 8, kernel, stride, **kwargs))


@pytest.mark.parametrize(
    'model',
    [
        conv(),
        conv(15),
        conv(stride=(1, 2)),
        conv(16, groups=2),
        nn.Sequential(nn.Conv2d(16, 16, 3), nn.Sequential(conv())),
    ],
)
def test_falls_back_and_names_the_layer(model):
    logger = MMLogger.get_current_instance()
    records = []
    handler = logging.Handler()
    handler.emit = records.append
    logger.addHandler(handler)
    try:
        assert safe_memory_format(model, LAST) == PLAIN
    finally:
        logger.removeHandler(handler)
    assert 'channels_last=True is left out: ' in records[-1].getMessage()
    assert records[-1].levelno == logging.WARNING


@pytest.mark.parametrize(
    'model',
    [
        conv(16),
        conv(stride=1),
        conv(kernel=3),
        conv(device='meta'),
        conv().requires_grad_(False),
    ],
)
def test_keeps_what_is_safe(model):
    assert safe_memory_format(model, LAST) == LAST
    assert safe_memory_format(model, PLAIN) == PLAIN


# Gradients of one layer on its own, against their sums, and of a PixCon.
LAYER = """
import torch
from pixcon_mm.models.memory_format import safe_memory_format
layer = torch.nn.Conv2d({channels}, 8, 1, stride=2)
form = safe_memory_format(layer, torch.channels_last)
layer.to(memory_format=form)
x = torch.randn(8, {channels}, 64, 64).contiguous(memory_format=form)
for _ in range(10):
    y = layer(x)
    layer.zero_grad()
    y.backward(torch.ones_like(y))
    expected = x[:, :, ::2, ::2].double().sum((0, 2, 3)).expand(8, -1)
    torch.testing.assert_close(
        layer.weight.grad.flatten(1).double(), expected, rtol=1e-3, atol=0.1
    )
"""
PIXCON = """
from tests.test_models import tiny
model = tiny.build(
    backbone=dict(tiny.RESNET, base_channels={channels}),
    in_channels=8 * {channels},
    channels_last=True,
)
for step in range(3):
    data = model.data_preprocessor(tiny.batch(size=8, seed=step), True)
    losses = model.loss(data['inputs'], data['data_samples'])
    sum(losses.values()).backward()
"""


CASES = [
    pytest.param(PIXCON, 4, 'AVX2', 1, id='pixcon'),
    *(
        pytest.param(*case, isa, threads, marks=pytest.mark.slow)
        for case in ((LAYER, 4), (LAYER, 12), (PIXCON, 4))
        for isa in ('AVX2', 'DEFAULT')
        for threads in (1, 2)
    ),
]


@pytest.mark.parametrize(('script', 'channels', 'isa', 'threads'), CASES)
def test_training_survives(script, channels, isa, threads):
    """In a process of its own: without the guard it dies or hangs."""
    result = subprocess.run(
        [sys.executable, '-c', script.format(channels=channels)],
        cwd=ROOT,
        env=dict(
            os.environ,
            ONEDNN_MAX_CPU_ISA=isa,
            OMP_NUM_THREADS=str(threads),
        ),
        capture_output=True,
        text=True,
        timeout=60,
    )
    died = -signal.SIGABRT, -signal.SIGSEGV
    assert result.returncode not in died, 'memory was corrupted'
    assert result.returncode == 0, result.stderr[-2000:]
