"""Curves of pre-trainings and of their measurements, for make.py."""

import math
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from pixcon_mm.visualization.curves import smooth
from reproduction.charts import COLORS

CURVES = {
    'loss_image': 'loss of the images, times 1 - lambda',
    'loss_dense': 'loss of the cells, times lambda',
    'mon_pos_sim': 'cosine of positives',
    'mon_pos_margin': "cosine of positives, less that of another image's",
    'mon_neg_logsumexp': 'log-sum of the negatives',
    'mon_feature_std': 'standard deviation of embeddings',
    'mon_effective_rank': 'effective rank of features',
}
PROBES = {
    'recall_at_1': 'correspondence: recall at 1',
    'recall_within_1_cell': 'correspondence: within one cell',
    'dense_knn': 'nearest neighbours: mIoU, %',
}


def draw_curves(
    curves: dict[str, Any], titles: dict[str, str]
) -> Figure | None:
    """Draw smoothed curves over epochs, a line for each run.

    Runs with the same title have lines of the same style.
    """
    drawn = [key for key in CURVES if any(key in c for c in curves.values())]
    if not drawn:
        return None
    columns = math.ceil(len(drawn) / 2)
    figure = Figure(figsize=(11 / 3 * columns, 6), layout='constrained')
    panels = figure.subplots(2, columns, squeeze=False).flat
    for axes, key in zip(panels, drawn, strict=False):
        for name, curve in curves.items():
            if key in curve:
                values = smooth(np.array(curve[key]))
                add_line(axes, titles, name, curve['epoch'], values)
        axes.set_title(CURVES[key], fontsize=9)
    if len(drawn) % 2:
        figure.axes[-1].set_visible(False)
    return with_legend(figure)


def draw_probes(
    probes: dict[str, Any], titles: dict[str, str]
) -> Figure | None:
    """Draw correspondence and nearest neighbours over epochs."""
    if not probes:
        return None
    figure = Figure(figsize=(11, 3.8), layout='constrained')
    for axes, (key, title) in zip(
        figure.subplots(1, 3), PROBES.items(), strict=True
    ):
        for name in dict.fromkeys(probe['run'] for probe in probes.values()):
            points = [p for p in probes.values() if p['run'] == name]
            epochs = [p['epoch'] for p in points]
            values = [p[key] for p in points]
            add_line(axes, titles, name, epochs, values, marker='.')
        axes.set_title(title, fontsize=9)
    return with_legend(figure)


def add_line(axes, titles, name, epochs, values, **style) -> None:
    """Draw the line of a run in the style of its title."""
    place = [*dict.fromkeys(titles.values())].index(titles[name])
    repeats, place = divmod(place, len(COLORS))
    style.update(color=COLORS[place], linestyle='--' if repeats else '-')
    axes.plot(epochs, values, lw=1, label=titles[name], **style)
    axes.set_xlabel('epoch', fontsize=8)
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)


def with_legend(figure: Figure) -> Figure:
    """Add a legend below the panels, with an entry for each method."""
    lines = {
        line.get_label(): line for axes in figure.axes for line in axes.lines
    }
    figure.legend(
        lines.values(),
        lines.keys(),
        loc='outside lower center',
        ncols=4,
        fontsize=9,
        frameon=False,
    )
    return figure
