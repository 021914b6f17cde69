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


PIXCON = """
from tests.test_models import tiny
model = tiny.build(
    backbone=dict(tiny.RESNET, base_channels=4),
    in_channels=32,
    channels_last=True,
)
for step in range(3):
    losses = tiny.losses(model, tiny.batch(size=8, seed=step))
    sum(losses.values()).backward()
"""


@pytest.mark.parametrize(
    ('isa', 'threads'),
    [('AVX2', '1'), pytest.param('DEFAULT', '2', marks=pytest.mark.slow)],
)
def test_training_survives(tmp_path, isa, threads):
    """Runs in a process of its own: without the guard it dies or hangs."""
    path = tmp_path / 'script.py'
    path.write_text(PIXCON)
    env = dict(ONEDNN_MAX_CPU_ISA=isa, OMP_NUM_THREADS=threads)
    result = run(path, **env)
    assert result.returncode == 0, result.stderr[-2000:]
