"""Similarity maps and principal components of frozen features."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pixcon_mm.errors import UserError
from pixcon_mm.models.matching import cell_similarity, normalize


def unit_rows(features: Tensor) -> Tensor:
    """Turn a feature map (D, h, w) into unit vectors (h * w, D)."""
    return normalize(features.flatten(1).T)


def similarity_map(
    source: Tensor, cell: tuple[int, int], target: Tensor
) -> np.ndarray:
    """Compute the cosine of one cell with all cells of an image.

    Args:
        source (Tensor): Features of the cell's image. Shape (D, h, w).
        cell (tuple[int, int]): Row and column of the cell in ``source``.
        target (Tensor): Features of the other image. Shape (D, H, W).

    Returns:
        np.ndarray: Cosines in [-1, 1]. Shape (H, W).

    Example:
        >>> features = torch.tensor([[[1.0, 0.0, 2.0]], [[0.0, 1.0, 0.0]]])
        >>> similarity_map(features, (0, 0), features).tolist()
        [[1.0, 0.0, 1.0]]
    """
    query = source[:, cell[0], cell[1]][None, :, None]
    cosine = cell_similarity(query, target.flatten(1)[None])
    return cosine.view(target.shape[1:]).cpu().numpy()


def principal_colors(
    maps: Sequence[Tensor],
) -> tuple[list[np.ndarray], list[float]]:
    """Project unit features of a set of images to three colours.

    Args:
        maps (Sequence[Tensor]): Features, (D, h, w) each.

    Returns:
        tuple: Colours in [0, 1] for each image, (h, w, 3), where 0 and 1 are
        the 1st and 99th percentile of a component; and the components' shares
        of the variance. The largest weight of a component is positive.

    Raises:
        UserError: If the images have fewer than four cells altogether.
    """
    rows = torch.cat([unit_rows(features) for features in maps]).cpu()
    if len(rows) < 4:
        raise UserError(
            'Three components need at least 4 cells, but these images have '
            f'{len(rows)}: take more or larger images.'
        )
    rows = rows - rows.mean(dim=0)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # pca_lowrank starts from a random matrix
        *_, axes = torch.pca_lowrank(rows, q=3, center=False, niter=8)
    largest = axes.gather(0, axes.abs().argmax(dim=0, keepdim=True))
    parts = rows @ (axes * largest.sign())
    shares = parts.square().sum(dim=0) / rows.square().sum()
    low, high = parts.quantile(torch.tensor([0.01, 0.99]), dim=0)
    colors = ((parts - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
    sizes = [features.shape[1] * features.shape[2] for features in maps]
    return [
        part.view(*features.shape[1:], 3).numpy()
        for part, features in zip(colors.split(sizes), maps, strict=True)
    ], shares.tolist()
