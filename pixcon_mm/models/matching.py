"""Matching of query and key cells, and the weights of the matches.

Pure functions. B batch, D backbone channels, N query cells, M key cells;
cells run row by row: (y, x). Source: docs/method.md, sections 4 and 5.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

EPS = 1e-6
TINY = 1e-12


def normalize(rows: Tensor) -> Tensor:
    """Scale rows (..., C) to unit length, in float32 or wider.

    Rows shorter than 1e-12 stay shorter than 1, so that their gradient is
    bounded.

    Example:
        >>> normalize(torch.tensor([3.0, 4.0]))
        tensor([0.6000, 0.8000])
    """
    dtype = torch.promote_types(rows.dtype, torch.float32)
    return F.normalize(rows.to(dtype), dim=-1, eps=TINY)


def cell_similarity(query: Tensor, key: Tensor) -> Tensor:
    """Compute the cosine of every query cell with every key cell.

    Always in float32: in half precision, the highest similarities of one row
    in a few dozen are equal (docs/differences.md, Step). The similarity is 0
    with a zero vector, and NaN with a vector that is not finite.

    Args:
        query (Tensor): Query backbone features. Shape (B, D, N).
        key (Tensor): Key backbone features. Shape (B, D, M).

    Returns:
        Tensor: In [-1, 1] or NaN, no gradient. Shape (B, N, M).

    Example:
        >>> cell_similarity(torch.eye(2)[None], 3 * torch.eye(2)[None])
        tensor([[[1., 0.],
                 [0., 1.]]])
    """
    with torch.no_grad(), torch.autocast(query.device.type, enabled=False):
        dtype = torch.promote_types(query.dtype, torch.float32)
        query, key = query.to(dtype), key.to(dtype)
        product = torch.bmm(query.transpose(1, 2), key)
        # Cheaper than normalising the features: M is smaller than D.
        query_norm = query.norm(dim=1).clamp_(min=TINY)
        key_norm = key.norm(dim=1).clamp_(min=TINY)
        product.div_(query_norm[:, :, None]).div_(key_norm[:, None])
        return product.clamp_(-1, 1)


def match_by_similarity(similarity: Tensor) -> tuple[Tensor, Tensor]:
    """Pair each query cell with its most similar key cell.

    Args:
        similarity (Tensor): Of :func:`cell_similarity`. Shape (B, N, M).

    Returns:
        tuple[Tensor, Tensor]: Highest similarity of each query cell, and the
        index of the key cell that has it, int64. Both of shape (B, N).
    """
    return similarity.max(dim=-1)


def match_by_coordinate(
    query_centers: Tensor, key_centers: Tensor
) -> tuple[Tensor, Tensor]:
    """Pair each query cell with the key cell nearest in the image.

    Args:
        query_centers (Tensor): x, y in image pixels. Shape (B, N, 2).
        key_centers (Tensor): The same of the key. Shape (B, M, 2).

    Returns:
        tuple[Tensor, Tensor]: Distance in pixels to the nearest key cell,
        and its index, int64. Both of shape (B, N).
    """
    # By matrix products, cdist would lose the digits that decide which of two
    # cells is nearer.
    distance = torch.cdist(
        query_centers, key_centers, compute_mode='donot_use_mm_for_euclid_dist'
    )
    return distance.min(dim=-1)


def semantic_weights(
    similarity: Tensor,
    has_counterpart: Tensor,
    power: float = 2.0,
    use_mask: bool = True,
) -> Tensor:
    """Weigh each query cell in the dense loss (PixCon-SR).

    A cell that is known to have a counterpart in the other view, because it
    lies in the overlap of the crops, weighs 1. The others weigh
    ((r - lo) / (hi - lo)) ** power, where lo is the lowest similarity of all
    cells of the view and hi the highest similarity of these others. If hi
    and lo are equal, all cells of the view weigh 1.

    A cell whose similarity is NaN weighs 1 and is left out of lo and hi, so
    that features that are not finite show up in the loss.

    Args:
        similarity (Tensor): r, similarity of each query cell to its match,
            in [-1, 1] or NaN. Shape (B, N).
        has_counterpart (Tensor): Bool. Shape (B, N).
        power (float): p, above 0.
        use_mask (bool): If False, all cells weigh max(r, 0) ** power, and
            ``has_counterpart`` is not used.

    Returns:
        Tensor: In [0, 1], no gradient. Shape (B, N).

    Example:
        >>> r = torch.tensor([[0.2, 0.6, 1.0]])
        >>> semantic_weights(r, torch.tensor([[False, False, False]]))
        tensor([[0.0000, 0.2500, 1.0000]])
    """
    similarity = similarity.detach().clamp(-1, 1)
    if not use_mask:
        return similarity.nan_to_num(nan=1.0).clamp(min=0) ** power
    is_nan = similarity.isnan()
    weighs_one = has_counterpart | is_nan
    # 2 and -2 are outside of the range of a cosine. If all cells weigh one,
    # the span is negative.
    lowest = similarity.masked_fill(is_nan, 2.0).amin(dim=1, keepdim=True)
    others = similarity.masked_fill(weighs_one, -2.0)
    span = others.amax(dim=1, keepdim=True) - lowest
    weights = ((others - lowest) / span.clamp(min=EPS)).clamp(0, 1) ** power
    return weights.masked_fill(weighs_one | (span < EPS), 1.0)
