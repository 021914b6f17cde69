"""The key encoder against the formula, parameter by parameter."""

import math

import pytest
import torch
from torch import nn

from pixcon_mm.errors import UserError
from pixcon_mm.models import KeyEncoder
from pixcon_mm.models.key_encoder import cosine_momentum


def test_schedule_is_the_closed_form_of_the_method():
    """m of docs/method.md, section 8."""
    total = 184_800
    for t in range(0, total, 7):
        m = 1 - (1 - 0.99) * (math.cos(math.pi * t / total) + 1) / 2
        ours = 1 - cosine_momentum(t / total, 0.01, 0.0)
        assert ours == pytest.approx(m, abs=1e-12)
    assert 1 - cosine_momentum(0.5, 0.01, 0.0) == pytest.approx(0.995)
    last = cosine_momentum((total - 1) / total, 0.01, 0.0)
    assert last == pytest.approx(7.2e-13, rel=0.01)


def networks():
    backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    return backbone, nn.Linear(4, 2)


def test_norm_statistics_are_its_own():
    backbone, neck = networks()
    encoder = KeyEncoder(backbone, neck)
    backbone(torch.randn(8, 3, 5, 5) + 3)
    encoder.update(backbone, neck, progress=0.0)
    assert not encoder.backbone[1].running_mean.any()
    assert backbone[1].running_mean.any()


def test_momentum_in_the_convention_of_the_paper_is_refused():
    with pytest.raises(UserError, match='1 - m'):
        KeyEncoder(*networks(), base_momentum=0.99)
