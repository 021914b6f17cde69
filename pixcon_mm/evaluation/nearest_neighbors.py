"""Dense nearest neighbours: classes of the most similar training cells.

Protocol of Balazevic et al., Towards In-Context Scene Understanding, NeurIPS
2023; docs/evaluation.md, section 1.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pixcon_mm.errors import UserError
from pixcon_mm.evaluation.backbones import FrozenBackbone
from pixcon_mm.evaluation.dense_data import DenseData
from pixcon_mm.evaluation.features import feature_batches
from pixcon_mm.evaluation.metrics import IGNORE, compare

# Most similarities that exist at a time: queries x keys.
QUERIES, KEYS = 1024, 16384


class Memory(NamedTuple):
    """Features and labels of training cells.

    Attributes:
        features (Tensor): Unit vectors. Shape (N, D).
        labels (Tensor): Share of each class in a cell. Shape (N, C).
    """

    features: Tensor
    labels: Tensor


def cell_labels(
    mask: Tensor, grid: tuple[int, int], num_classes: int
) -> tuple[Tensor, Tensor]:
    """Measure the share of each class in the cells of a grid over a mask.

    A pixel belongs to the cell that contains its upper left corner. By its
    centre, random weights of seed 0 would have 10.8 instead of 10.9 in
    docs/study/, which was measured with this rule.

    Args:
        mask (Tensor): Classes or ``IGNORE``, in any size. Shape (H, W).
        grid (tuple[int, int]): Rows and columns, h and w.
        num_classes (int): Number of classes C.

    Returns:
        tuple[Tensor, Tensor]: Shares of the classes among the labelled pixels
        of each cell, (h * w, C), zeros for a cell without labelled pixels; and
        the share of each cell's pixels that are labelled, (h * w, ).

    Example:
        >>> mask = torch.tensor([[0, 1, 1, 1], [0, 0, 1, IGNORE]])
        >>> cell_labels(mask, (1, 2), 2)
        (tensor([[0.7500, 0.2500],
                [0.0000, 1.0000]]), tensor([1.0000, 0.7500]))
    """
    places = [
        (torch.arange(side) * cells).div(side, rounding_mode='floor')
        for side, cells in zip(mask.shape, grid, strict=True)
    ]
    cells = (places[0][:, None] * grid[1] + places[1]).flatten()
    num_cells, labels = grid[0] * grid[1], mask.flatten().long()
    pixels = torch.bincount(cells, minlength=num_cells)
    is_labelled = labels != IGNORE
    pairs = cells[is_labelled] * num_classes + labels[is_labelled]
    counts = torch.bincount(pairs, minlength=num_cells * num_classes)
    counts = counts.view(num_cells, num_classes).float()
    total = counts.sum(dim=1)
    shares = counts / total.clamp(min=1)[:, None]
    return shares, total / pixels.clamp(min=1)


def build_memory(
    backbone: FrozenBackbone,
    data: DenseData,
    indices: Sequence[int],
    size: int | None,
    seed: int = 0,
    **loading,
) -> Memory:
    """Collect cells of training images, the same number from each image.

    They are drawn at random from the cells with labels for at least half of
    their pixels.

    Args:
        backbone (FrozenBackbone): The network.
        data (DenseData): Training images.
        indices (Sequence[int]): Indices of the images to use.
        size (int, optional): Largest number of cells; None takes all.
        seed (int): Seed of the draw.
        **loading: Arguments of :func:`feature_batches`.
    """
    generator = torch.Generator().manual_seed(seed)
    num_classes, device = len(data.classes), backbone.mean.device
    cells = data.size[0] * data.size[1] // backbone.stride**2
    every = cells * len(indices)
    # If size is not a multiple of their number, the first give one more cell.
    # One of several processes may have no image.
    each, more = divmod(size or every, max(len(indices), 1))
    capacity = min(size or every, every)
    features = torch.empty(capacity, backbone.channels, device=device)
    labels = torch.empty(capacity, num_classes, device=device)
    filled = image = 0
    for maps, masks in feature_batches(backbone, data, indices, **loading):
        grid = tuple(maps.shape[2:])
        for feature_map, mask in zip(maps, masks, strict=True):
            shares, labelled = cell_labels(mask, grid, num_classes)
            useful = (labelled >= 0.5).nonzero().flatten()
            order = torch.randperm(len(useful), generator=generator)
            chosen = useful[order[: each + (image < more)]]
            rows = feature_map.flatten(1).T[chosen.to(device)]
            end = filled + len(chosen)
            features[filled:end] = F.normalize(rows, dim=1)
            labels[filled:end] = shares[chosen].to(device)
            filled, image = end, image + 1
    return Memory(features[:filled], labels[:filled])


def nearest_labels(
    queries: Tensor,
    memory: Memory,
    k: int = 30,
    temperature: float = 0.02,
) -> Tensor:
    """Average the labels of the k most similar cells of a memory.

    The search is exact. The weights of the average are the softmax of
    cosine / temperature over the k cells. At most ``QUERIES`` x ``KEYS``
    similarities exist at a time.

    Args:
        queries (Tensor): Unit vectors. Shape (Q, D).
        memory (Memory): N cells.
        k (int): Number of neighbours; at most N are used.
        temperature (float): Positive temperature of the softmax.

    Returns:
        Tensor: Shares of the classes; each row adds up to 1. Shape (Q, C).

    Example:
        >>> memory = Memory(torch.eye(2), torch.eye(2))
        >>> nearest_labels(torch.tensor([[1.0, 0.0]]), memory, k=1)
        tensor([[1., 0.]])
    """
    shares = []
    for part in queries.split(QUERIES):
        similarity, index = _search(part, memory.features, k)
        weights = (similarity / temperature).softmax(dim=1)
        shares.append(
            torch.einsum('qk,qkc->qc', weights, memory.labels[index])
        )
    return torch.cat(shares)


def _search(queries: Tensor, keys: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """Find the k largest products of each query with the keys, by chunks."""
    best = queries.new_empty(len(queries), 0)
    index = torch.empty_like(best, dtype=torch.long)
    for start in range(0, len(keys), KEYS):
        products = queries @ keys[start : start + KEYS].T
        values, places = products.topk(min(k, products.shape[1]), dim=1)
        best = torch.cat([best, values], dim=1)
        index = torch.cat([index, places + start], dim=1)
        best, order = best.topk(min(k, best.shape[1]), dim=1)
        index = index.gather(1, order)
    return best, index


def segment(
    backbone: FrozenBackbone,
    data: DenseData,
    indices: Sequence[int],
    memory: Memory,
    k: int = 30,
    temperature: float = 0.02,
    mask_size: int | None = None,
    **loading,
) -> Tensor:
    """Segment validation images by nearest neighbours.

    Args:
        backbone (FrozenBackbone): The network.
        data (DenseData): Validation images.
        indices (Sequence[int]): Indices of the images to use.
        memory (Memory): From :func:`build_memory`.
        k (int): Number of neighbours.
        temperature (float): Temperature of :func:`nearest_labels`.
        mask_size (int, optional): Side of the square that masks are resized
            to before the comparison; None compares in the size of the
            photographs.
        **loading: Arguments of :func:`feature_batches`.

    Returns:
        Tensor: Confusion matrix, on the CPU. Shape (C, C).

    Raises:
        UserError: If the memory is empty.
    """
    num_classes = len(data.classes)
    if not len(memory.features):
        raise UserError(
            'No cell of the chosen training images has one of the classes '
            f'{", ".join(data.classes)}: take more images or classes.'
        )
    confusion = torch.zeros(num_classes, num_classes, dtype=torch.long)
    for maps, masks in feature_batches(backbone, data, indices, **loading):
        rows = F.normalize(
            maps.flatten(2).transpose(1, 2).flatten(0, 1), dim=1
        )
        shares = nearest_labels(rows, memory, k, temperature)
        shares = shares.view(len(maps), -1, num_classes).transpose(1, 2)
        scores = shares.unflatten(2, maps.shape[2:])
        confusion += compare(scores, masks, mask_size)
    return confusion
