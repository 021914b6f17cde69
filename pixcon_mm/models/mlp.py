"""The two-layer perceptron that projectors and predictors share."""

from mmcv.cnn import build_conv_layer, build_norm_layer
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
    norm_cfg = dict(norm_cfg)
    if not dense and norm_cfg['type'] == 'BN':
        norm_cfg['type'] = 'BN1d'

    def linear(width_in: int, width_out: int) -> nn.Module:
        if dense:
            return build_conv_layer(None, width_in, width_out, 1)
        return nn.Linear(width_in, width_out)

    return nn.Sequential(
        linear(in_channels, hid_channels),
        build_norm_layer(norm_cfg, hid_channels)[1],
        nn.ReLU(inplace=True),
        linear(hid_channels, out_channels),
    )
