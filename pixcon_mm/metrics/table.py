"""Table of metrics for the terminal."""

import math
from collections.abc import Mapping

# Prefixes of metrics in [0, 1], those of MMDetection; others are in percent.
SHARES = ('coco/', 'pascal_voc/', 'cityscapes/', 'lvis/', 'openimages/')


def metric_table(metrics: Mapping[str, float | None]) -> str:
    """Write metrics in percent, one per line, with two decimals.

    Args:
        metrics (dict[str, float | None]): Values by the frameworks' names.
            None and NaN, for a metric without a value, become a dash.

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
