"""A format that would corrupt memory is not taken."""

import pytest
import torch
from torch import nn

from pixcon_mm.models import memory_format
from pixcon_mm.models.memory_format import safe_memory_format
from tests.commands import run

LAST, PLAIN = torch.channels_last, torch.contiguous_format


def conv(channels=4, kernel=1, stride=2, **kwargs):
    return nn.Sequential(nn.Conv2d(channels, 8, kernel, stride, **kwargs))


@pytest.mark.parametrize(
    ('model', 'is_safe'),
    [
        (conv(), False),
        (conv(15), False),
        (conv(stride=(1, 2)), False),
        (conv(16, groups=2), False),
        (nn.Sequential(nn.Conv2d(16, 16, 3), conv()), False),
        (conv(16), True),
        (conv(stride=1), True),
        (conv(kernel=3), True),
        (conv(device='meta'), True),
        (conv().requires_grad_(False), True),
    ],
)
def test_falls_back_with_a_warning(monkeypatch, model, is_safe):
    warnings = []
    monkeypatch.setattr(
        memory_format, 'print_log', lambda text, **_: warnings.append(text)
    )
    assert safe_memory_format(model, PLAIN) == PLAIN
    assert safe_memory_format(model, LAST) == (LAST if is_safe else PLAIN)
    assert len(warnings) == (not is_safe)


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
    losses = tiny.losses(model, tiny.batch(size=8, seed=step))
    sum(losses.values()).backward()
"""


@pytest.mark.parametrize(
    ('script', 'channels', 'isa', 'threads'),
    [
        pytest.param(PIXCON, 4, 'AVX2', 1, id='pixcon'),
        *(
            pytest.param(*case, isa, threads, marks=pytest.mark.slow)
            for case in ((LAYER, 4), (LAYER, 12), (PIXCON, 4))
            for isa in ('AVX2', 'DEFAULT')
            for threads in ('1', '2')
        ),
    ],
)
def test_training_survives(tmp_path, script, channels, isa, threads):
    """Runs in a process of its own: without the guard it dies or hangs."""
    path = tmp_path / 'script.py'
    path.write_text(script.format(channels=channels))
    env = dict(ONEDNN_MAX_CPU_ISA=isa, OMP_NUM_THREADS=str(threads))
    result = run(path, timeout=60, **env)
    assert result.returncode == 0, result.stderr[-2000:]
