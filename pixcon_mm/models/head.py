"""PixConHead: predictors, matching, weights, and both contrastive losses.

B images of a batch, C embedding width, N cells per view, V = 2 views.
"""

from typing import Literal, NamedTuple, get_args

import torch
from mmengine.model import BaseModule
from mmpretrain.registry import MODELS
from torch import Tensor

from pixcon_mm.errors import UserError
from pixcon_mm.models.geometry import (
    Geometry,
    MaskRule,
    cell_centers,
    cell_diagonals,
    cell_mask,
    overlap_boxes,
)
from pixcon_mm.models.info_nce import InfoNCETerms
from pixcon_mm.models.key_encoder import ViewKeys
from pixcon_mm.models.matching import (
    cell_similarity,
    match_by_coordinate,
    match_by_similarity,
    normalize,
    semantic_weights,
)
from pixcon_mm.models.mlp import build_mlp
from pixcon_mm.models.neck import ViewFeatures

EPS = 1e-6
Matching = Literal['similarity', 'coordinate']


class ViewPair(NamedTuple):
    """One direction of the losses: a view as query, the other one as key.

    Both are of the same B images.
    """

    query: ViewFeatures
    key: ViewKeys
    geometry: Geometry  # along V: the query view, then the key view


class Match(NamedTuple):
    """The positive of every query cell, and its weight. Shapes (B, N)."""

    key_cell: Tensor  # index of the positive among the key's cells, int64
    weight: Tensor  # of the cell in the dense loss, in [0, 1]
    in_overlap: Tensor  # bool; only for a monitor, weight includes it


def pair_views(
    queries: list[ViewFeatures], keys: list[ViewKeys], geometry: Geometry
) -> list[ViewPair]:
    """Pair each view as query with the other one as key.

    Args:
        queries (list[ViewFeatures]): Both views after the trained network.
        keys (list[ViewKeys]): Both views after the key encoder.
        geometry (Geometry): First view first.
    """
    return [
        ViewPair(queries[0], keys[1], geometry),
        ViewPair(queries[1], keys[0], geometry.swapped()),
    ]


def feature_std(rows: Tensor) -> Tensor:
    """Compute the standard deviation of unit rows (..., C), times sqrt(C).

    It is 1 for rows spread evenly over the sphere, and 0 if all are equal.
    """
    rows = rows.detach().flatten(0, -2)
    return rows.std(0, unbiased=False).mean() * rows.shape[-1] ** 0.5


def positive_margin(query: Tensor, positive: Tensor) -> Tensor:
    """Measure how much more queries resemble their own positives than others.

    The comparison is with the positive at the same place of another image,
    the previous one in the batch. The difference stays near 0 if queries have
    only learned to differ from the means in the queue, or to know their place
    in the grid, neither of which says anything about the image
    (docs/method.md, section 12). It is 0 for a batch of one image.

    Args:
        query (Tensor): Unit rows, by direction and image. Shape
            (2, B, ..., C).
        positive (Tensor): The key of each query, unit rows of the same shape.

    Returns:
        Tensor: Mean difference of cosines, a scalar in [-2, 2].
    """
    other = positive.roll(1, dims=1)
    return (query.detach() * (positive - other)).sum(-1).mean()


@MODELS.register_module()
class PixConHead(BaseModule):
    """Predictors, matching, weights and losses; each view is query once.

    The variants of the paper are two switches: PixCon-Sim is
    ``matching='similarity'``, PixCon-SR adds ``reweight``, PixCon-Coord is
    ``matching='coordinate'``, where only query cells in the overlap of the
    crops take part; with ``reweight``, the others take part with their
    similarity match. Source: docs/method.md, sections 4 to 6.

    Args:
        channels (int): Embedding width C.
        hid_channels (int): Hidden width of the predictors.
        norm_cfg (dict): Norm layer of the predictors.
        loss (dict): Config of the contrastive loss.
        matching (str): 'similarity' or 'coordinate'.
        reweight (dict, optional): ``power`` and ``use_mask`` of
            :func:`semantic_weights`; None for equal weights.
        mask_rule (str): Rule for a cell to be in the overlap: 'center' if
            its centre is, 'floor' as in the release; see :func:`cell_mask`.
        max_distance (float, optional): With coordinate matching, the
            largest distance of a match, in diagonals of a cell, that of the
            view whose cells are larger.
        with_dense (bool): Whether there is a dense predictor.
        init_cfg (dict, optional): PyTorch's own initialisation if None.
    """

    def __init__(
        self,
        channels: int,
        hid_channels: int,
        norm_cfg: dict,
        loss: dict,
        matching: Matching = 'similarity',
        reweight: dict | None = None,
        mask_rule: MaskRule = 'center',
        max_distance: float | None = None,
        with_dense: bool = True,
        init_cfg: dict | None = None,
    ):
        super().__init__(init_cfg)
        for name, value, kind in (
            ('matching', matching, Matching),
            ('mask_rule', mask_rule, MaskRule),
        ):
            if value not in get_args(kind):
                choices = ' or '.join(map(repr, get_args(kind)))
                raise UserError(
                    f'PixConHead: {name}={value!r} is unknown; choose '
                    f'{choices}.'
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
        self.mask_rule: MaskRule = mask_rule
        self.max_distance = max_distance
        self.loss_module = MODELS.build(loss)
        sizes = (channels, hid_channels, channels, norm_cfg)
        self.predictor = build_mlp(*sizes)
        self.dense_predictor = build_mlp(*sizes) if with_dense else None

    def image_loss(
        self, pairs: list[ViewPair], queue: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Contrast whole views.

        Args:
            pairs (list[ViewPair]): Both directions, of B images each.
            queue (Tensor): Negative keys, unit rows. Shape (K, C).

        Returns:
            tuple[Tensor, dict[str, Tensor]]: The sum of both directions'
            means, and monitors; all are scalars.
        """
        # Query and positive have shape (2, B, C).
        query = torch.stack(
            [normalize(self.predictor(p.query.image)) for p in pairs]
        )
        positive = torch.stack([pair.key.image for pair in pairs])
        nce = self.loss_module(
            query.flatten(0, 1), positive.flatten(0, 1), queue
        )
        # Both directions have B rows, so this is the sum of their means.
        return 2 * nce.loss.mean(), self._monitors(nce, query, positive)

    def dense_loss(
        self, pairs: list[ViewPair], queue: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Contrast cells with their matches.

        Takes the arguments of :meth:`image_loss` and returns its kind of
        values; the loss is the sum of both directions' weighted means over
        the cells of the batch.
        """
        # Matching comes first because its memory is freed at once, while
        # predictions keep theirs until the backward pass.
        matches = [self.match(pair) for pair in pairs]
        # Query and positive have shape (2, B, N, C).
        query = torch.stack([self._predict_cells(pair) for pair in pairs])
        positives = []
        for pair, match in zip(pairs, matches, strict=True):
            assert pair.key.cells is not None
            positives.append(
                pair.key.cells.take_along_dim(match.key_cell[..., None], 1)
            )
        positive = torch.stack(positives)
        nce = self.loss_module(
            query.flatten(0, 2), positive.flatten(0, 2), queue
        )
        # One row per direction: shape (2, B * N).
        weight = torch.stack([match.weight.flatten() for match in matches])
        row_loss = nce.loss.view_as(weight)
        # The clamp avoids 0/0 in a direction whose weights are all 0.
        loss = (weight * row_loss).sum(1) / weight.sum(1).clamp(min=EPS)
        monitors = self._monitors(nce, query, positive)
        in_overlap = torch.stack([match.in_overlap for match in matches])
        monitors['overlap'] = in_overlap.float().mean()
        monitors['weight'] = weight.mean()
        return loss.sum(), monitors

    @torch.no_grad()
    def match(self, pair: ViewPair) -> Match:
        """Match and weigh the query cells of one direction, no gradient."""
        query, key, geometry = pair
        overlap = overlap_boxes(geometry)[:, 0]  # in the query view's frame
        in_overlap = cell_mask(overlap, query.grid, self.mask_rule)
        # Of each query cell: the highest similarity, and the key cell with it.
        similarity, key_cell = match_by_similarity(
            cell_similarity(query.backbone, key.backbone)
        )
        # Query cells whose part of the image is in the key view as well.
        has_counterpart = in_overlap
        if self.matching == 'coordinate':
            # Both views have the same size, and so the same grid.
            centers = cell_centers(geometry, query.grid)
            distance, nearest = match_by_coordinate(
                centers[:, 0], centers[:, 1]
            )
            if self.max_distance is not None:
                diagonal = cell_diagonals(geometry, query.grid).amax(1)
                near = distance <= self.max_distance * diagonal[:, None]
                has_counterpart = in_overlap & near
            key_cell = torch.where(has_counterpart, nearest, key_cell)
        if self.reweight is not None:
            weight = semantic_weights(
                similarity, has_counterpart, **self.reweight
            )
        elif self.matching == 'coordinate':
            weight = has_counterpart.to(similarity.dtype)
        else:
            weight = torch.ones_like(similarity)
        return Match(key_cell, weight, in_overlap)

    def _predict_cells(self, pair: ViewPair) -> Tensor:
        """Return unit predictions of all query cells. Shape (B, N, C)."""
        assert pair.query.cells is not None
        assert self.dense_predictor is not None
        # One row per cell: the predictor's batch norm sees B * N of them.
        predicted = self.dense_predictor(pair.query.cells.flatten(0, 1))
        return normalize(predicted.view_as(pair.query.cells))

    def _monitors(
        self, nce: InfoNCETerms, query: Tensor, positive: Tensor
    ) -> dict[str, Tensor]:
        """Return scalars that MonitorHook logs, such as ``mon_pos_sim``."""
        temperature = self.loss_module.temperature
        return dict(
            pos_sim=nce.pos_logit.detach().mean() * temperature,
            pos_margin=positive_margin(query, positive),
            neg_logsumexp=nce.neg_logsumexp.detach().mean(),
            feature_std=feature_std(query),
        )
