"""The key encoder, a moving average of the query encoder; its schedule."""

import copy
import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from pixcon_mm.errors import UserError
from pixcon_mm.models.matching import normalize


class ViewKeys(NamedTuple):
    """One view after the key encoder, without gradient.

    All but ``backbone`` are unit rows.
    """

    backbone: Tensor  # features of the cells, for the matching (B, D, N)
    image: Tensor  # positive of the image loss; later in its queue (B, C)
    cells: Tensor | None  # positives of the dense loss (B, N, C)
    mean_cell: Tensor | None  # later in the dense loss's queue (B, C)


def cosine_momentum(progress: float, base: float, end: float) -> float:
    """Anneal the momentum of the key encoder by half a cosine.

    Source: docs/method.md, section 8.

    Args:
        progress (float): Share of training done, 0 to 1.
        base (float): Momentum at the start, in MMEngine's convention 1 - m:
            0.01 is the paper's m = 0.99.
        end (float): Momentum at the end.

    Example:
        >>> round(cosine_momentum(0.5, 0.01, 0.0), 6)
        0.005
    """
    return end - (end - base) * (math.cos(math.pi * progress) + 1) / 2


class KeyEncoder(nn.Module):
    """A copy of the query's backbone and neck that follows them slowly.

    Papers also call it the momentum encoder. Its neck has projectors too. Its
    parameters never get a gradient. Its batch norms keep running statistics
    of their own, since they see its own features.

    Args:
        backbone (nn.Module): The query's backbone; it is copied.
        neck (nn.Module): The query's neck; it is copied.
        base_momentum (float): Momentum (1 - m) at the start.
        end_momentum (float): Momentum (1 - m) at the end.
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
        """Compute all keys of one view, images of shape (B, 3, H, W).

        Source: docs/method.md, sections 6 and 7.
        """
        features = self.neck(self.backbone(view))
        image, cells = normalize(features.image), features.cells
        if cells is None:
            return ViewKeys(features.backbone, image, None, None)
        # The mean of projections before they are scaled to unit length, added
        # up in float32 or wider.
        dtype = torch.promote_types(cells.dtype, torch.float32)
        mean_cell = normalize(cells.mean(1, dtype=dtype))
        return ViewKeys(features.backbone, image, normalize(cells), mean_cell)

    def copy_from(self, backbone: nn.Module, neck: nn.Module) -> None:
        """Copy the query's weights and buffers unchanged."""
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
            float: The paper's m, which is 1 - momentum here.
        """
        momentum = cosine_momentum(
            progress, self.base_momentum, self.end_momentum
        )
        own: list[Tensor] = list(self.parameters())
        query: list[Tensor] = [*backbone.parameters(), *neck.parameters()]
        torch._foreach_lerp_(own, query, momentum)
        return 1 - momentum
