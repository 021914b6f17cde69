"""Segmentation by clustering frozen features; docs/evaluation.md, section 4.

Protocol of Ziegler and Asano, Leopart, CVPR 2022: standardise the features,
reduce them by PCA, cluster them by k-means (of faiss), and match the clusters
to classes.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from pixcon_mm.errors import UserError
from pixcon_mm.evaluation.backbones import FrozenBackbone
from pixcon_mm.evaluation.dense_data import DenseData
from pixcon_mm.evaluation.features import feature_batches
from pixcon_mm.evaluation.metrics import confusion_matrix, shrink

PCA, MASK = 50, 100  # dimensions; side of the masks in pixels
ITERATIONS, SEEDS = 50, 5  # iterations and number of runs of k-means


def fit_pca(
    backbone: FrozenBackbone,
    data: DenseData,
    indices: Sequence[int],
    dims: int = PCA,
    **loading,
) -> tuple[Tensor, Tensor]:
    """Find the principal components of standardised features.

    Only sums are kept, in float64, so memory does not grow with the number of
    images.

    Returns:
        tuple[Tensor, Tensor]: Mean of the features, (D, ), and the matrix
        that projects features minus mean on the components, (D, dims).
    """
    count, size = 0, backbone.channels
    sums = torch.zeros(size, dtype=torch.float64)
    products = torch.zeros(size, size, dtype=torch.float64)
    for maps, _ in feature_batches(backbone, data, indices, **loading):
        rows = maps.transpose(0, 1).flatten(1).T.double().cpu()
        count, sums = count + len(rows), sums + rows.sum(dim=0)
        products += rows.T @ rows
    mean = sums / count
    covariance = products / count - mean[:, None] * mean
    # Constant channels carry no information.
    spread = covariance.diagonal().clamp(min=0).sqrt()
    scale = torch.where(spread > 1e-8 * spread.max(), 1 / spread, 0)
    correlation = covariance * scale[:, None] * scale
    vectors = torch.linalg.eigh(correlation)[1].flip(1)[:, :dims]
    return mean.float(), (scale[:, None] * vectors).float()


def project(
    backbone: FrozenBackbone,
    data: DenseData,
    indices: Sequence[int],
    pca: tuple[Tensor, Tensor],
    **loading,
) -> tuple[np.ndarray, Tensor]:
    """Project all cells on the principal components, and shrink all masks.

    Returns:
        tuple: Cells, float32, (images, h, w, dims), and masks, uint8,
        (images, ``MASK``, ``MASK``).
    """
    mean, matrix = (part.to(backbone.mean.device) for part in pca)
    cells, small = [], []
    for maps, masks in feature_batches(backbone, data, indices, **loading):
        cells.append(((maps.movedim(1, 3) - mean) @ matrix).cpu())
        small += [shrink(mask, MASK) for mask in masks]
    return torch.cat(cells).numpy(), torch.stack(small)


def cluster(cells: np.ndarray, k: int, seed: int) -> Tensor:
    """Cluster cells by k-means.

    Args:
        cells (np.ndarray): float32. Shape (..., dims).
        k (int): Number of clusters.
        seed (int): Seed of the first centres.

    Returns:
        Tensor: Cluster of each cell, int64. Shape (...).
    """
    import faiss

    points = np.ascontiguousarray(cells.reshape(-1, cells.shape[-1]))
    if len(points) < k:
        raise UserError(
            f'k-means of {k} clusters has only {len(points)} cells: take more '
            'images, or lower --clusters.'
        )
    means = faiss.Kmeans(
        points.shape[1],
        k,
        niter=ITERATIONS,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=len(points),  # no subsampling
    )
    means.train(points)
    ids = means.index.search(points, 1)[1]
    return torch.from_numpy(ids.reshape(cells.shape[:-1]))


def count_pairs(
    ids: Tensor, masks: Tensor, k: int, num_classes: int
) -> Tensor:
    """Count the pixels of each pair of cluster and class.

    A pixel belongs to the cell that contains its centre.

    Args:
        ids (Tensor): Clusters of cells. Shape (images, h, w).
        masks (Tensor): Classes or ``IGNORE``. Shape (images, H, W).
        k (int): Number of clusters.
        num_classes (int): Number of classes C.

    Returns:
        Tensor: int64. Shape (k, C).
    """
    # Float32 holds every number of a cluster exactly.
    full = F.interpolate(
        ids[:, None].float(), masks.shape[1:], mode='nearest-exact'
    )[:, 0].long()
    counts = confusion_matrix(full, masks, max(k, num_classes))
    return counts[:num_classes, :k].T


def merge_by_precision(counts: Tensor) -> Tensor:
    """Give each cluster the most frequent class of its pixels.

    Args:
        counts (Tensor): From :func:`count_pairs`. Shape (k, C).

    Returns:
        Tensor: Confusion matrix. Shape (C, C).

    Example:
        >>> merge_by_precision(torch.tensor([[3, 1], [2, 0], [0, 4]]))
        tensor([[5, 0],
                [1, 4]])
    """
    best = counts.argmax(dim=1)
    confusion = torch.zeros(2 * (counts.shape[1],), dtype=counts.dtype)
    return confusion.index_add(0, best, counts).T


def match_by_iou(counts: Tensor) -> Tensor:
    """Match C clusters to C classes, one to one, for the highest mIoU.

    Args:
        counts (Tensor): From :func:`count_pairs` with k = C. Shape (C, C).

    Returns:
        Tensor: Confusion matrix. Shape (C, C).

    Example:
        >>> match_by_iou(torch.tensor([[0, 5], [4, 1]]))
        tensor([[4, 0],
                [1, 5]])
    """
    union = counts.sum(dim=1, keepdim=True) + counts.sum(dim=0) - counts
    iou = counts.double() / union.clamp(min=1)
    clusters, classes = linear_sum_assignment(iou.numpy(), maximize=True)
    confusion = torch.zeros_like(counts)
    confusion[torch.from_numpy(classes)] = counts[torch.from_numpy(clusters)]
    return confusion.T
