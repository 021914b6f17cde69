"""Evaluations of frozen features: their commands and their metrics."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Iterator
from typing import Any

from pixcon_mm.tools.evaluate_dense import parse_args

# Short names for metrics, which a plan can use beside the dotted names.
MAIN = {
    'dense_knn': 'knn.shares.1/1.miou',
    'linear': 'linear.miou',
    'correspondence': 'correspondence.recall_at_1',
}
OF_THE_RUN = ('arch', 'pretrained', 'prefix', 'out', 'seed')
REPORT = 'dense.json'  # output of tools/evaluate_dense.py in a run's folder


def arguments(options: dict[str, Any]) -> list[str]:
    """Write options as command line arguments of tools/evaluate_dense.py.

    Example:
        >>> arguments(dict(size=[224, 320], mask_size=14))
        ['--size', '224', '320', '--mask-size', '14']
    """
    words = []
    for key, value in options.items():
        values = value if isinstance(value, list) else [value]
        words += [f'--{key.replace("_", "-")}', *map(str, values)]
    return words


def check_arguments(options: dict[str, Any]) -> None:
    """Check the options of an evaluation in a plan.

    Raises:
        ValueError: For the first mistake.
    """
    taken = [key for key in options if key in OF_THE_RUN]
    if taken:
        raise ValueError(f'evaluate: {taken[0]} is set by each run')
    line = ['arch', '--pretrained', 'none', *arguments(options)]
    message = io.StringIO()
    try:
        with contextlib.redirect_stderr(message):
            parse_args(line)
    except SystemExit:
        mistake = message.getvalue().rpartition('error: ')[2].strip()
        raise ValueError(f'evaluate: {mistake}') from None


def metrics_of(results: dict[str, Any]) -> dict[str, float]:
    """List the numbers of a report by dotted name, after those in ``MAIN``.

    Those that are not finite are left out, since no table can show them.

    Example:
        >>> report = dict(miou=20.5, iou=dict(cat=9.0), rank=float('nan'))
        >>> metrics_of(dict(linear=report))
        {'linear': 20.5, 'linear.miou': 20.5, 'linear.iou.cat': 9.0}
    """
    found = dict(_numbers(results))
    main = {name: found[key] for name, key in MAIN.items() if key in found}
    return {**main, **found}


def _numbers(node: Any, path: str = '') -> Iterator[tuple[str, float]]:
    if isinstance(node, dict):
        for key, child in node.items():
            yield from _numbers(child, f'{path}.{key}' if path else key)
    elif type(node) in (int, float) and math.isfinite(node):
        yield path, node
