"""PixConNeck: projections of a view and of its cells, from one feature map."""

from typing import NamedTuple

import torch.nn.functional as F
from mmengine.model import BaseModule
from mmpretrain.registry import MODELS
from torch import Tensor

from pixcon_mm.errors import UserError
from pixcon_mm.models.mlp import build_mlp


class ViewFeatures(NamedTuple):
    """One view after backbone and neck; cells run row by row, N = H * W.

    Projections are the output of the last layer, not scaled to unit length.
    """

    backbone: Tensor  # features of the cells (B, D, N)
    image: Tensor  # projection of the view (B, C)
    cells: Tensor | None  # projections of the cells (B, N, C)
    grid: tuple[int, int]  # (H, W) of the feature map


@MODELS.register_module()
class PixConNeck(BaseModule):
    """Projectors of the whole view and of its cells, in parallel.

    Whole view: average pool, then two linear layers. Cells: two 1x1
    convolutions. Source: docs/method.md, section 1.

    Args:
        in_channels (int): Channels D of the backbone's feature map.
        hid_channels (int): Width between the layers.
        out_channels (int): Embedding width C.
        norm_cfg (dict): Norm layer between them.
        with_dense (bool): Whether there is a projector of cells.
        init_cfg (dict, optional): PyTorch's own initialisation if None.
    """

    def __init__(
        self,
        in_channels: int,
        hid_channels: int,
        out_channels: int,
        norm_cfg: dict,
        with_dense: bool = True,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        sizes = (in_channels, hid_channels, out_channels, norm_cfg)
        self.in_channels = in_channels
        self.out_channels = out_channels
        self.projector = build_mlp(*sizes)
        self.dense_projector = (
            build_mlp(*sizes, dense=True) if with_dense else None
        )

    def forward(self, feats: tuple[Tensor, ...]) -> ViewFeatures:
        """Project the backbone's output.

        Args:
            feats (tuple[Tensor]): One map of shape (B, D, H, W), or
                (B, H, W, D) as timm's Swin returns it. The axis whose size is
                ``in_channels`` has the channels.
        """
        feature_map = self._only_map(feats)
        pooled = F.adaptive_avg_pool2d(feature_map, 1).flatten(1)
        cells = None
        if self.dense_projector is not None:
            cells = self.dense_projector(feature_map).flatten(2).mT
        height, width = feature_map.shape[2:]
        return ViewFeatures(
            backbone=feature_map.flatten(2),
            image=self.projector(pooled),
            cells=cells,
            grid=(height, width),
        )

    def _only_map(self, feats: Tensor | tuple[Tensor, ...]) -> Tensor:
        """Return the backbone's map as (B, D, H, W), or raise UserError."""
        maps = (feats,) if isinstance(feats, Tensor) else tuple(feats)
        if len(maps) != 1 or maps[0].dim() != 4:
            raise UserError(
                'PixConNeck needs one feature map (B, C, H, W), but the '
                f'backbone gave {[tuple(m.shape) for m in maps]}: choose one '
                'stage in out_indices, and a map as output '
                "(VisionTransformer: out_type='featmap'; ConvNeXt: "
                'gap_before_final_norm=False; TIMMBackbone: '
                'features_only=True). docs/backbones.md has tested settings.'
            )
        (feature_map,) = maps
        _, channels, height, width = feature_map.shape
        # Of (B, H, W, D) these names are wrong: D is ``width``. Crops are
        # square, so if two of the three sizes are equal, they are H and W.
        is_channels_last = channels == height != width
        if channels == self.in_channels and not is_channels_last:
            return feature_map
        if width == self.in_channels:
            # (B, H, W, D)
            return feature_map.permute(0, 3, 1, 2)
        raise UserError(
            f'PixConNeck has in_channels={self.in_channels}, but the '
            f'backbone gave a map of shape {tuple(feature_map.shape)}: set '
            'model.neck.in_channels='
            f'{width if is_channels_last else channels}.'
        )
