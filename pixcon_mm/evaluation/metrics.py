"""Metrics of segmentations and of features: pure functions of tensors."""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pixcon_mm.errors import UserError

IGNORE = 255  # label of pixels that do not count
CLASSES = 16  # number of classes that are upsampled at once, to save memory


def confusion_matrix(
    predicted: Tensor, target: Tensor, num_classes: int
) -> Tensor:
    """Count the pixels of each pair of true and predicted class.

    Args:
        predicted (Tensor): Classes, int64. Any shape.
        target (Tensor): Classes or ``IGNORE``, of the same shape.
        num_classes (int): Number of classes C.

    Returns:
        Tensor: int64, rows are true classes. Shape (C, C).

    Example:
        >>> confusion_matrix(torch.tensor([0, 1, 1]),
        ...                  torch.tensor([0, 0, IGNORE]), 2)
        tensor([[1, 1],
                [0, 0]])
    """
    target, predicted = target.flatten().long(), predicted.flatten()
    counts = target != IGNORE
    pairs = target[counts] * num_classes + predicted[counts]
    matrix = torch.bincount(pairs, minlength=num_classes**2)
    return matrix.view(num_classes, num_classes)


def label_map(scores: Tensor, size: tuple[int, int]) -> Tensor:
    """Upsample scores bilinearly and return the best class of each pixel.

    Args:
        scores (Tensor): Shape (C, h, w).
        size (tuple[int, int]): Height and width, in pixels.

    Returns:
        Tensor: Classes, int64, on the CPU. Shape (H, W).
    """
    best = torch.full(size, -torch.inf, device=scores.device)
    label = torch.zeros(size, dtype=torch.long, device=scores.device)
    for start in range(0, len(scores), CLASSES):
        part = F.interpolate(
            scores[None, start : start + CLASSES], size, mode='bilinear'
        )[0]
        value, index = part.max(dim=0)
        is_better = value > best
        best = torch.where(is_better, value, best)
        label = torch.where(is_better, index + start, label)
    return label.cpu()


def compare(
    scores: Tensor, masks: Sequence[Tensor], mask_size: int | None
) -> Tensor:
    """Count the pixels of each pair of true and predicted class in a batch.

    Args:
        scores (Tensor): Scores of the classes in each cell. Shape
            (B, C, h, w).
        masks (Sequence[Tensor]): B masks of classes or ``IGNORE``, in any
            size. Shape (H, W) each.
        mask_size (int, optional): Side of the square that masks are resized
            to; None compares in the size of each mask.

    Returns:
        Tensor: Confusion matrix, on the CPU. Shape (C, C).
    """
    num_classes = scores.shape[1]
    confusion = torch.zeros(num_classes, num_classes, dtype=torch.long)
    for image_scores, mask in zip(scores, masks, strict=True):
        mask = shrink(mask, mask_size)
        predicted = label_map(image_scores, mask.shape)
        confusion += confusion_matrix(predicted, mask, num_classes)
    return confusion


def shrink(mask: Tensor, size: int | None) -> Tensor:
    """Resize a mask to a square by nearest neighbours, unless size is None."""
    if size is None:
        return mask
    shape = (size, size)
    return F.interpolate(mask[None, None], shape, mode='nearest-exact')[0, 0]


def segmentation_metrics(
    confusion: Tensor, classes: Sequence[str]
) -> dict[str, Any]:
    """Summarise a confusion matrix, in percent.

    A class that neither occurs nor is predicted has no IoU, and a class that
    does not occur has no accuracy. The means leave such classes out.

    Args:
        confusion (Tensor): From :func:`confusion_matrix`. Shape (C, C).
        classes (Sequence[str]): Names of the C classes.

    Returns:
        dict[str, Any]: ``miou``, ``mean_accuracy``, ``pixel_accuracy``, and
        dicts ``iou`` and ``accuracy`` with a value or None for each class.

    Raises:
        UserError: If no pixel was counted.

    Example:
        >>> counts = torch.tensor([[3, 1], [0, 4]])
        >>> found = segmentation_metrics(counts, ['sky', 'sea'])
        >>> found['iou'], found['miou']
        ({'sky': 75.0, 'sea': 80.0}, 77.5)
    """
    if not confusion.any():
        raise UserError(
            'None of the pixels to compare has one of the classes '
            f'{", ".join(classes)}: take more images or classes.'
        )
    counts = confusion.double()
    hits, actual = counts.diagonal(), counts.sum(dim=1)
    union = actual + counts.sum(dim=0) - hits
    iou, accuracy = 100 * hits / union, 100 * hits / actual

    def by_class(values: Tensor) -> dict[str, float | None]:
        numbers = [None if v.isnan() else v.item() for v in values]
        return dict(zip(classes, numbers, strict=True))

    return dict(
        miou=iou.nanmean().item(),
        mean_accuracy=accuracy.nanmean().item(),
        pixel_accuracy=(100 * hits.sum() / actual.sum()).item(),
        iou=by_class(iou),
        accuracy=by_class(accuracy),
    )


def effective_rank(features: Tensor) -> float:
    """Return RankMe's effective rank: exp of the entropy of singular values.

    Garrido et al., RankMe, ICML 2023, equation 1. It is 1 if all features
    are multiples of one vector, and at most min(N, D).

    Args:
        features (Tensor): One feature per row, not centred. Shape (N, D).

    Returns:
        float: In [1, min(N, D)]; NaN if all values are zero or any is not
        finite.

    Example:
        >>> round(effective_rank(torch.eye(4)), 4)
        4.0
        >>> round(effective_rank(torch.ones(4, 3)), 4)
        1.0
    """
    features = features.detach().double()
    if not features.isfinite().all():
        return math.nan
    # Squared singular values are eigenvalues of a smaller matrix, which take a
    # fraction of the time. In float64, the square roots keep enough digits.
    rows = features if len(features) < features.shape[1] else features.T
    squares = torch.linalg.eigvalsh(rows @ rows.T)
    values = squares.clamp(min=0).sqrt()
    shares = values / values.sum()
    return torch.special.entr(shares).sum().exp().item()
