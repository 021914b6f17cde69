"""Backbones of docs/backbones.md train; others are refused in words."""

import re
from types import SimpleNamespace

import pytest
import torch
from mmpretrain.registry import MODELS
from torch import nn

from pixcon_mm.checkpoint.pretrained import Pretrained, fill_model
from pixcon_mm.errors import UserError
from pixcon_mm.models.neck import PixConNeck
from tests import ROOT
from tests.test_models import tiny

PAGE = (ROOT / 'docs/backbones.md').read_text()
ROWS = re.findall(
    r'^\| (.+) \| `(dict\(.+\))` \| (\d+) \| (\d+) x \d+ \|$', PAGE, re.M
)
# These take no other size, or need it for their windows; others get 64 px.
FULL_SIZE = ('Swin-T', 'timm: Swin-T', 'timm: ViT-S/16')
QUICK = re.compile('MobileNet|EfficientNet')
SMALL = {
    'resnet50': (dict(tiny.RESNET, depth=50), 256, 64),
    'convnext': (
        dict(
            type='ConvNeXt',
            arch=dict(depths=[1, 1, 2, 1], channels=[8, 16, 24, 32]),
            out_indices=(3,),
            gap_before_final_norm=False,
        ),
        32,
        96,
    ),
    'vit': (
        dict(
            type='VisionTransformer',
            arch=dict(
                embed_dims=32,
                num_layers=2,
                num_heads=2,
                feedforward_channels=64,
            ),
            img_size=64,
            patch_size=16,
            out_type='featmap',
        ),
        32,
        64,
    ),
    'timm_swin': (
        dict(
            type='TIMMBackbone',
            model_name='swin_tiny_patch4_window7_224',
            features_only=True,
            out_indices=(3,),
            img_size=64,
            window_size=2,
            embed_dim=8,
            depths=(1, 1, 2, 1),
            num_heads=(1, 2, 2, 2),
        ),
        64,
        64,
    ),
}


@pytest.fixture(autouse=True)
def _quick_random_weights(monkeypatch):
    """Drawing a normal distribution takes longer than the step."""
    for name in ('trunc_normal_', 'kaiming_normal_', 'normal_'):
        monkeypatch.setattr(
            nn.init, name, lambda x, *_, **__: nn.init.uniform_(x, -0.05, 0.05)
        )


def train_a_step(backbone, channels, pixels, **options):
    """Check losses and gradients; return the sizes of the map."""
    model = tiny.build(backbone=backbone, in_channels=channels, **options)
    grids = []
    model.neck.register_forward_hook(
        lambda neck, inputs, output: grids.append(output.grid)
    )
    result = tiny.losses(model, tiny.batch(size=2, pixels=pixels))
    sum(result.values()).backward()
    assert all(torch.isfinite(value) for value in result.values())
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name
    (grid,) = set(grids)
    return grid


@pytest.mark.parametrize(
    ('name', 'config', 'channels', 'grid'),
    [
        pytest.param(
            *row, marks=[] if QUICK.search(row[0]) else pytest.mark.slow
        )
        for row in ROWS
    ],
    ids=[row[0] for row in ROWS],
)
def test_backbones_of_the_table(name, config, channels, grid):
    backbone = eval(config, dict(norm_cfg=tiny.NORM))
    pixels = 224 if name in FULL_SIZE else 64
    side = pixels * int(grid) // 224
    assert train_a_step(backbone, int(channels), pixels) == (side, side)


@pytest.mark.parametrize('channels_last', [False, True])
@pytest.mark.parametrize('name', SMALL)
def test_any_backbone_with_one_map(name, channels_last):
    train_a_step(*SMALL[name], channels_last=channels_last)


def test_more_maps_than_in_pretraining():
    """An FPN's ConvNeXt has norms that one map's lacks."""
    small, *_ = SMALL['convnext']
    trained = MODELS.build(dict(small, _scope_='mmpretrain'))
    several = dict(small, out_indices=(0, 1, 2, 3), _scope_='mmpretrain')
    model = SimpleNamespace(backbone=MODELS.build(several))
    weights = Pretrained(trained.state_dict(), 'FILE')
    advice = r"norm0.weight: .*new_layers=\['norm0', 'norm1', 'norm2'\]"
    with pytest.raises(UserError, match=advice):
        fill_model(model, weights)
    with pytest.raises(UserError, match="names 'norm4', but the backbone"):
        fill_model(model, weights, ['norm0', 'norm4'])
    new = ['norm0', 'norm1', 'norm2']
    tensors = trained.state_dict()
    count = len(tensors)
    assert fill_model(model, weights, new) == [
        f'backbone: {count}/{count} tensors from FILE',
        "backbone: new, and not filled: 'norm0', 'norm1' and 'norm2'",
    ]
    found = model.backbone.state_dict()
    for name, tensor in tensors.items():
        assert torch.equal(found.pop(name), tensor), name
    assert {name.split('.')[0] for name in found} == {*new}


def test_channels_in_the_last_axis_are_recognised():
    """A map (B, H, W, C) gives what the same map (B, C, H, W) does."""
    neck = PixConNeck(8, 16, 4, dict(type='BN'))
    feature_map = torch.randn(2, 8, 3, 5)
    expected = neck((feature_map,))
    found = neck((feature_map.permute(0, 2, 3, 1),))
    assert found.grid == expected.grid == (3, 5)
    for name in ('backbone', 'image', 'cells'):
        torch.testing.assert_close(
            getattr(found, name), getattr(expected, name)
        )


@pytest.mark.parametrize(
    ('shapes', 'message'),
    [
        ([(2, 8, 3, 3), (2, 16, 2, 2)], 'one feature map'),
        ([(2, 197, 8)], r'one feature map .*features_only=True'),
        ([(2, 16, 3, 3)], 'in_channels=8, but .*neck.in_channels=16'),
        ([(2, 16, 3, 5)], 'in_channels=8, but .*neck.in_channels=16'),
        ([(2, 3, 3, 16)], 'in_channels=8, but .*neck.in_channels=16'),
        # The number fits the height.
        ([(2, 8, 8, 16)], 'in_channels=8, but .*neck.in_channels=16'),
    ],
)
def test_wrong_feature_maps_are_refused(shapes, message):
    neck = PixConNeck(8, 16, 4, dict(type='BN'))
    with pytest.raises(UserError, match=message):
        neck([torch.zeros(shape) for shape in shapes])
