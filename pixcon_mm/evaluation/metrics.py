"""Measures of segmentations and of features: pure functions of tensors."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pixcon_mm.errors import UserError

IGNORE = 255  # label of pixels that do not count


def confusion_matrix(
    predicted: Tensor, target: Tensor, num_classes: int
) -> Tensor:
    """Count the pixels of each pair of true and predicted class.

    Args:
        predicted (Tensor): Classes, int64. Any shape.
        target (Tensor): Classes or ``IGNORE``, of the same shape.
        num_classes (int): C.

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


def segmentation_metrics(
    confusion: Tensor, classes: Sequence[str]
) -> dict[str, Any]:
    """Summarise a confusion matrix, in percent.

    A class that neither occurs nor is predicted has no IoU, a class that does
    not occur has no accuracy; means are over the others.

    Args:
        confusion (Tensor): From :func:`confusion_matrix`. Shape (C, C).
        classes (Sequence[str]): Names of the C classes.

    Returns:
        dict[str, Any]: ``miou``, ``mean_accuracy``, ``pixel_accuracy``, and
        by class ``iou`` and ``accuracy`` (None if there is none).

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
            'None of the pixels that were to be compared has one of the '
            f'classes {", ".join(classes)}: take more images or classes.'
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
        features (Tensor): One feature a row, not centred. Shape (N, D).

    Returns:
        float: In [1, min(N, D)]; NaN if all features are zero or one is not
        finite.

    Example:
        >>> round(effective_rank(torch.eye(4)), 4)
        4.0
        >>> round(effective_rank(torch.ones(4, 3)), 4)
        1.0
    """
    features = features.detach().float()
    if not features.isfinite().all():
        return math.nan
    values = torch.linalg.svdvals(features).double()
    shares = values / values.sum()
    return torch.special.entr(shares).sum().exp().item()
