"""The two-layer perceptron that projectors and predictors share."""

from collections.abc import Callable
from functools import partial

from mmcv.cnn import build_norm_layer
from torch import nn


def build_mlp(
    in_channels: int,
    hid_channels: int,
    out_channels: int,
    norm_cfg: dict,
    dense: bool = False,
) -> nn.Sequential:
    """Build linear, norm, ReLU, linear for rows (N, C) or maps (B, C, H, W).

    Both linear layers have a bias and nothing follows the last one
    (docs/method.md, section 1). The layers are numbered as in the release.

    Args:
        in_channels (int): Input width.
        hid_channels (int): Width between the layers.
        out_channels (int): Output width.
        norm_cfg (dict): Norm layer; 'BN' is the batch norm for the input.
        dense (bool): Build 1x1 convolutions, for maps.
    """
    linear: Callable[..., nn.Module] = nn.Linear
    if dense:
        linear = partial(nn.Conv2d, kernel_size=1)
    elif norm_cfg['type'] == 'BN':
        norm_cfg = dict(norm_cfg, type='BN1d')
    return nn.Sequential(
        linear(in_channels, hid_channels),
        build_norm_layer(norm_cfg, hid_channels)[1],
        nn.ReLU(inplace=True),
        linear(hid_channels, out_channels),
    )
