"""Metrics as a person reads them."""

import math
from collections.abc import Mapping

# Of MMDetection's metrics, which are shares of 1; others are in percent.
SHARES = ('coco/', 'pascal_voc/', 'cityscapes/', 'lvis/', 'openimages/')


def metric_table(metrics: Mapping[str, float | None]) -> str:
    """Write metrics in percent, one a line, with two decimals.

    Args:
        metrics (dict[str, float | None]): As the frameworks name them. None
            and NaN stand for what could not be measured.

    Example:
        >>> print(metric_table({'coco/bbox_mAP': 0.345, 'coco/x': None}))
        metric         percent
        coco/bbox_mAP    34.50
        coco/x               -
    """
    width = max(map(len, ('metric', *metrics)))
    lines = [f'{"metric":<{width}}  percent']
    for name, value in metrics.items():
        scale = 100 if name.startswith(SHARES) else 1
        is_number = value is not None and math.isfinite(value)
        text = f'{scale * value:.2f}' if is_number else '-'
        lines.append(f'{name:<{width}}  {text:>7}')
    return '\n'.join(lines)
