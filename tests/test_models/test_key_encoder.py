"""The key encoder's schedule and statistics; see test_one_step.py."""

import pytest
import torch
from torch import nn

from pixcon_mm.models import KeyEncoder
from pixcon_mm.models.key_encoder import cosine_momentum


@pytest.mark.parametrize(
    ('progress', 'momentum'),
    # 1 - m of docs/method.md, section 8; the last of 184,800 steps.
    [(0, 0.01), (0.5, 0.005), (2 / 3, 0.0025), (1 - 1 / 184_800, 7.2e-13)],
)
def test_schedule_is_that_of_the_method(progress, momentum):
    found = cosine_momentum(progress, 0.01, 0.0)
    assert found == pytest.approx(momentum, rel=0.01)


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
