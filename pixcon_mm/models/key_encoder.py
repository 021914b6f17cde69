"""The momentum encoder that makes the keys, and its schedule."""

import copy
import math
from typing import NamedTuple

import torch
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from pixcon_mm.errors import UserError
from pixcon_mm.models.matching import normalize


class ViewKeys(NamedTuple):
    """Keys of one view, normalised and without gradient; N = H * W cells.

    Attributes:
        backbone (Tensor): Backbone features, not normalised, for the
            matching. Shape (B, D, N).
        image (Tensor): Key of the whole view: positive of the image loss and
            new key of the image queue. Shape (B, C).
        cells (Tensor | None): Keys of the cells: positives of the dense
            loss. Shape (B, N, C).
        mean_cell (Tensor | None): New key of the dense queue. Shape (B, C).
    """

    backbone: Tensor
    image: Tensor
    cells: Tensor | None
    mean_cell: Tensor | None


def cosine_momentum(progress: float, base: float, end: float) -> float:
    """Anneal the momentum of the key encoder by half a cosine.

    Both ends follow MMEngine: 0.01 is the paper's m = 0.99, 0 is m = 1.
    Source: docs/method.md, section 8.

    Args:
        progress (float): Share of training done, 0 to 1.
        base (float): Momentum at the start.
        end (float): Momentum at the end.

    Returns:
        float: Weight of the query encoder in this update, 1 - m.

    Example:
        >>> cosine_momentum(0.0, 0.01, 0.0)
        0.01
        >>> round(cosine_momentum(0.5, 0.01, 0.0), 6)
        0.005
    """
    return end - (end - base) * (math.cos(math.pi * progress) + 1) / 2


@MODELS.register_module()
class KeyEncoder(nn.Module):
    """A slowly moving copy of the query's backbone and neck.

    Its parameters never get a gradient. Its batch norms keep running
    statistics of their own: they see the key's own batches.

    Args:
        backbone (nn.Module): The query's backbone, copied.
        neck (nn.Module): The query's neck, copied.
        base_momentum (float): Momentum at the start (1 - m).
        end_momentum (float): Momentum at the end (1 - m).
    """

    def __init__(
        self,
        backbone: nn.Module,
        neck: nn.Module,
        base_momentum: float = 0.01,
        end_momentum: float = 0.0,
    ):
        super().__init__()
        for name, value in (
            ('base_momentum', base_momentum),
            ('end_momentum', end_momentum),
        ):
            if not 0 <= value <= 0.5:
                raise UserError(
                    f'PixCon: {name}={value} must lie in [0, 0.5]: it is '
                    "1 - m, so write 0.01 for the paper's m = 0.99."
                )
        self.backbone = copy.deepcopy(backbone)
        self.neck = copy.deepcopy(neck)
        self.base_momentum = base_momentum
        self.end_momentum = end_momentum
        self.requires_grad_(False)

    @torch.no_grad()
    def forward(self, view: Tensor) -> ViewKeys:
        """Make all keys of a view (docs/method.md, sections 6 and 7).

        Args:
            view (Tensor): Normalised images. Shape (B, 3, H, W).
        """
        features = self.neck(self.backbone(view))
        cells, mean_cell = features.cells, None
        if cells is not None:
            wide = torch.promote_types(cells.dtype, torch.float32)
            # The mean of the projections before they are normalised.
            mean_cell = normalize(cells.mean(-1, dtype=wide))
            cells = normalize(cells.transpose(1, 2))
        return ViewKeys(
            backbone=features.backbone,
            image=normalize(features.image),
            cells=cells,
            mean_cell=mean_cell,
        )

    @torch.no_grad()
    def copy_from(self, backbone: nn.Module, neck: nn.Module) -> None:
        """Take over the query's weights and buffers as they are."""
        self.backbone.load_state_dict(backbone.state_dict())
        self.neck.load_state_dict(neck.state_dict())

    @torch.no_grad()
    def update(
        self, backbone: nn.Module, neck: nn.Module, progress: float
    ) -> float:
        """Move every parameter towards the query's.

        Args:
            backbone (nn.Module): The query's backbone.
            neck (nn.Module): The query's neck.
            progress (float): Share of training done, 0 to 1.

        Returns:
            float: The paper's m of this update.
        """
        momentum = cosine_momentum(
            progress, self.base_momentum, self.end_momentum
        )
        keys = [*self.backbone.parameters(), *self.neck.parameters()]
        queries = [*backbone.parameters(), *neck.parameters()]
        torch._foreach_lerp_(keys, queries, momentum)
        return 1 - momentum
