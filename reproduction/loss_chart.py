"""Loss curves of all pre-trainings on one axis."""

from __future__ import annotations

import math
import re

import matplotlib
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pixcon_mm.visualization.curves import smooth, smoothing
from reproduction.charts import STYLE, Key, Look, key_of
from reproduction.results import Table

LINES = ('-', '--', ':', '-.')


@matplotlib.rc_context(STYLE)
def losses(tables: list[Table], looks: dict[Key, Look]) -> Figure | None:
    """Smoothed losses of all pre-trainings; None without any."""
    curves = {
        (key_of(row), run): records
        for table in tables
        for row in table.rows
        for run, records in row.curves.items()
        if any('loss' in record for record in records)
    }
    if not curves:
        return None
    seeds = list(dict.fromkeys(_seed(run) for _, run in sorted(curves)))
    keys = list(dict.fromkeys(key for key, _ in curves))
    dash = {seed: LINES[i % len(LINES)] for i, seed in enumerate(seeds)}
    figure = Figure(figsize=(5, 3.2 + 0.1 * len(keys)), layout='constrained')
    axes = figure.add_subplot(xlabel='iteration', ylabel='loss')
    for (key, run), records in curves.items():
        style = dict(color=looks[key].color, linestyle=dash[_seed(run)])
        axes.plot(*_curve(records), linewidth=1.2, **style)
    axes.grid(alpha=0.3)
    axes.locator_params(axis='x', nbins=6)
    entries = [Line2D([], [], color=looks[key].color) for key in keys]
    labels = [looks[key].label.replace('\n', ' ') for key in keys]
    entries += [Line2D([], [], color='#222222', ls=dash[s]) for s in seeds]
    figure.legend(
        entries,
        labels + seeds,
        loc='outside lower center',
        ncols=2,
        frameon=False,
    )
    return figure


def _curve(records: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    """Steps and smoothed losses, no more than a small picture shows."""
    records = [record for record in records if 'loss' in record]
    steps = np.array([record['step'] for record in records])
    values = np.array([record['loss'] for record in records], dtype=float)
    values = smooth(values, smoothing(len(values)))
    every = math.ceil(len(values) / 300)
    # The last one stays in: it is what readers look for.
    kept = np.arange(len(values) - 1, -1, -every)[::-1]
    return steps[kept], values[kept]


def _seed(run: str) -> str:
    found = re.search(r'seed(\d+)$', run)
    return f'seed {found[1]}' if found else run
