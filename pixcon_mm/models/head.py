"""PixConHead: predictors, matching, weights, and both contrastive losses.

B batch, C embedding width, N cells a view, V = 2 views.
"""

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmpretrain.registry import MODELS
from torch import Tensor

from pixcon_mm.errors import UserError
from pixcon_mm.models.feature_queue import FeatureQueue
from pixcon_mm.models.geometry import (
    cell_centers,
    cell_diagonal,
    cell_mask,
    overlap_boxes,
)
from pixcon_mm.models.info_nce import InfoNCE, product_dtype
from pixcon_mm.models.matching import (
    HUGE,
    cell_similarity,
    match_by_coordinate,
    match_by_similarity,
    semantic_weights,
)
from pixcon_mm.models.mlp import build_mlp
from pixcon_mm.models.neck import ViewFeatures

EPS = 1e-6
Matches = tuple[Tensor, Tensor, Tensor]


def normalize(rows: Tensor) -> Tensor:
    """Scale the last dimension to unit length, in float32 or wider.

    Rows shorter than 1e-12 stay shorter than 1, so that their gradient is
    bounded; a row with a component that is not finite becomes NaN.

    Example:
        >>> normalize(torch.tensor([3.0, 4.0]))
        tensor([0.6000, 0.8000])
        >>> normalize(torch.tensor([3e30, 4e30]))
        tensor([0.6000, 0.8000])
    """
    rows = rows.to(torch.promote_types(rows.dtype, torch.float32))
    # 1 unless squares would overflow; constant, for length has no gradient.
    peak = rows.detach().abs().amax(dim=-1, keepdim=True)
    return F.normalize(rows / (peak / HUGE).clamp(min=1), dim=-1)


def spread(rows: Tensor) -> Tensor:
    """Standard deviation of unit rows: 1 when uniform, 0 when collapsed.

    Args:
        rows (Tensor): Unit rows. Shape (..., C).

    Example:
        >>> spread(torch.ones(4, 1)).item()
        0.0
    """
    rows = rows.detach().flatten(0, -2)
    return rows.std(0, unbiased=False).mean() * rows.shape[-1] ** 0.5


@MODELS.register_module()
class PixConHead(BaseModule):
    """Predict, match, weigh, contrast; each view is query once.

    The variants of the paper are two switches: PixCon-Sim is
    ``matching='similarity'``, PixCon-SR adds ``reweight``, PixCon-Coord is
    ``matching='coordinate'``. The release holds no coordinate matching; its
    definition here is this project's: the positive of a query cell is the
    key cell whose centre is nearest in the image, and only query cells in
    the overlap of the two crops take part. With ``reweight``, the cells
    outside take part with their similarity match and semantic weight.

    Args:
        channels (int): Embedding width C.
        hid_channels (int): Hidden width of the predictors.
        norm_cfg (dict): Norm layer of the predictors.
        loss (dict): Config of the contrastive loss.
        matching (str): 'similarity' or 'coordinate'.
        reweight (dict, optional): ``power`` and ``use_mask`` of
            :func:`semantic_weights`; None for equal weights.
        mask_rule (str): When a cell is in the overlap: 'center' if its
            centre is, 'floor' as in the release.
        max_distance (float, optional): With coordinate matching, the
            farthest a match may be, in diagonals of the larger cell.
        with_dense (bool): Whether there is a dense predictor.
        init_cfg (dict, optional): PyTorch's own initialisation if None.
    """

    def __init__(
        self,
        channels: int,
        hid_channels: int,
        norm_cfg: dict,
        loss: dict,
        matching: str = 'similarity',
        reweight: dict | None = None,
        mask_rule: str = 'center',
        max_distance: float | None = None,
        with_dense: bool = True,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        if matching not in ('similarity', 'coordinate'):
            raise UserError(
                f'PixConHead: matching={matching!r} is unknown; choose '
                "'similarity' or 'coordinate'."
            )
        if mask_rule not in ('center', 'floor'):
            raise UserError(
                f'PixConHead: mask_rule={mask_rule!r} is unknown; choose '
                "'center' or 'floor'."
            )
        unknown = set(reweight or ()) - {'power', 'use_mask'}
        if unknown:
            raise UserError(
                f'PixConHead: reweight has unknown keys {sorted(unknown)}; '
                "it takes 'power' and 'use_mask'."
            )
        if reweight and not reweight.get('power', 1) > 0:
            raise UserError(
                f'PixConHead: reweight has power={reweight["power"]}, which '
                'must be above 0; the paper uses 2.'
            )
        if max_distance is not None and matching != 'coordinate':
            raise UserError(
                'PixConHead: max_distance belongs to '
                "matching='coordinate'; remove it or change matching."
            )
        self.matching = matching
        self.reweight = reweight
        self.mask_rule = mask_rule
        self.max_distance = max_distance
        self.contrast = MODELS.build(loss)
        sizes = (channels, hid_channels, channels, norm_cfg)
        self.image_predictor = build_mlp(*sizes)
        self.dense_predictor = build_mlp(*sizes) if with_dense else None

    def image_loss(
        self,
        queries: list[ViewFeatures],
        keys: list[ViewFeatures],
        queue: FeatureQueue,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Contrast whole views, in both directions.

        Args:
            queries (list[ViewFeatures]): Both views by the query encoder.
            keys (list[ViewFeatures]): Both views by the key encoder.
            queue (FeatureQueue): Negative keys.

        Returns:
            tuple[Tensor, dict[str, Tensor]]: The sum of both directions'
            means, and monitors.
        """
        query = torch.cat(
            [normalize(self.image_predictor(view.image)) for view in queries]
        )
        positive = torch.cat([normalize(view.image) for view in keys[::-1]])
        nce = self.contrast(query, positive, queue.rows(product_dtype(query)))
        # Both directions have B rows: the sum of two means.
        return 2 * nce.loss.mean(), self._monitors(nce, query)

    def dense_loss(
        self,
        queries: list[ViewFeatures],
        keys: list[ViewFeatures],
        geometry: dict[str, Tensor],
        queue: FeatureQueue,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Contrast cells with their matches, in both directions.

        Args:
            queries (list[ViewFeatures]): Both views by the query encoder.
            keys (list[ViewFeatures]): Both views by the key encoder.
            geometry (dict[str, Tensor]): ``crop_boxes`` (B, V, 4) in image
                pixels and ``flips`` (B, V).
            queue (FeatureQueue): Negative keys.

        Returns:
            tuple[Tensor, dict[str, Tensor]]: The sum of both directions'
            weighted means over the cells of the batch, and monitors.
        """
        query = torch.stack([self._predict_cells(view) for view in queries])
        cells = [normalize(view.cells.transpose(1, 2)) for view in keys[::-1]]
        index, weight, mask = self.match(queries, keys, geometry)
        positive = torch.stack(
            [
                rows.take_along_dim(match[..., None], dim=1)
                for rows, match in zip(cells, index, strict=True)
            ]
        )
        nce = self.contrast(
            query.flatten(0, 2),
            positive.flatten(0, 2),
            queue.rows(product_dtype(query)),
        )
        weight = weight.flatten(1)
        row_loss = nce.loss.view_as(weight)
        # A pair without participating cells adds nothing, not 0/0.
        loss = (weight * row_loss).sum(1) / weight.sum(1).clamp(min=EPS)
        monitors = self._monitors(nce, query)
        monitors['overlap'] = mask.float().mean()
        monitors['weight'] = weight.mean()
        return loss.sum(), monitors

    @torch.no_grad()
    def match(
        self,
        queries: list[ViewFeatures],
        keys: list[ViewFeatures],
        geometry: dict[str, Tensor],
    ) -> Matches:
        """Positive, weight and overlap of every query cell of both views.

        Args:
            queries (list[ViewFeatures]): Both views by the query encoder.
            keys (list[ViewFeatures]): Both views by the key encoder.
            geometry (dict[str, Tensor]): As in :meth:`dense_loss`.

        Returns:
            tuple[Tensor, Tensor, Tensor]: Index of the matched cell of the
            other view, int64; weight in [0, 1]; True inside the overlap.
            Each of shape (V, B, N).
        """
        crops, flips = geometry['crop_boxes'], geometry['flips']
        overlaps = overlap_boxes(crops, flips)
        directions = []
        for a, b in ((0, 1), (1, 0)):
            query, key = queries[a], keys[b]
            mask = cell_mask(overlaps[:, a], query.grid, self.mask_rule)
            similarity, index = match_by_similarity(
                cell_similarity(query.backbone, key.backbone)
            )
            inside = mask
            if self.matching == 'coordinate':
                distance, nearest = match_by_coordinate(
                    cell_centers(crops[:, a], flips[:, a], query.grid),
                    cell_centers(crops[:, b], flips[:, b], key.grid),
                )
                if self.max_distance is not None:
                    diagonal = torch.maximum(
                        cell_diagonal(crops[:, a], query.grid),
                        cell_diagonal(crops[:, b], key.grid),
                    )
                    near = distance <= self.max_distance * diagonal[:, None]
                    inside = mask & near
                index = torch.where(inside, nearest, index)
            directions.append((index, self._weights(similarity, inside), mask))
        return tuple(
            torch.stack(part) for part in zip(*directions, strict=True)
        )

    def _weights(self, similarity: Tensor, inside: Tensor) -> Tensor:
        if self.reweight is not None:
            return semantic_weights(similarity, inside, **self.reweight)
        if self.matching == 'coordinate':
            return inside.to(similarity.dtype)
        return torch.ones_like(similarity)

    def _predict_cells(self, view: ViewFeatures) -> Tensor:
        """Unit predictions of all cells. Shape (B, N, C)."""
        rows = view.cells.transpose(1, 2)
        # One row a cell: the predictor's batch norm sees B * N of them.
        predicted = self.dense_predictor(rows.flatten(0, 1))
        return normalize(predicted.view(*rows.shape))

    def _monitors(self, nce: InfoNCE, query: Tensor) -> dict[str, Tensor]:
        temperature = self.contrast.temperature
        return dict(
            pos_sim=nce.positive.detach().mean() * temperature,
            neg_lse=nce.negatives.detach().mean(),
            feat_std=spread(query),
        )
