"""What a pre-training cost against what it brought."""

from __future__ import annotations

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator

from reproduction.charts import (
    STYLE,
    Key,
    Look,
    heading,
    is_finite,
    key_of,
)
from reproduction.formats import cell_of, pretrainings
from reproduction.results import Column, Row, Table


@matplotlib.rc_context(STYLE)
def costs(
    table: Table, column: Column, looks: dict[Key, Look]
) -> Figure | None:
    """Score against device hours of one pre-training.

    Rows that start from given weights stand in a band of their own on the
    left: nothing was spent on them here.

    Args:
        table (Table): Rows of unknown cost are left out.
        column (Column): Which of its metrics.
        looks (dict): From :func:`looks_of`.

    Returns:
        Figure | None: None if no pre-training has both a cost and a score.
    """
    rows = [
        row
        for row in table.rows
        if row.is_ours
        and is_finite(cell_of(row, column))
        and hours_of(row) is not None
    ]
    spent = [hours_of(row) for row in rows if hours_of(row)]
    if not spent:
        return None
    figure = Figure(figsize=(4.4, 2.9), layout='constrained')
    axes = figure.add_subplot(title=heading(column))
    axes.set_xlabel('device hours of a pre-training')
    given = _scale_hours(axes, spent, with_given=len(spent) < len(rows))
    ends = []
    for row in rows:
        cell, look = cell_of(row, column), looks[key_of(row)]
        x = hours_of(row) or given
        axes.errorbar(
            x,
            cell.mean,
            yerr=cell.std,
            fmt=look.marker,
            color=look.color,
            capsize=3,
            ms=5,
            lw=1,
        )
        ends.append((cell.mean, x, look))
    axes.grid(axis='y', alpha=0.3)
    _label_points(axes, sorted(ends, key=lambda end: end[0]))
    return figure


def hours_of(row: Row) -> float | None:
    """Device hours of one pre-training: 0 for given weights, None unknown."""
    if row.pretrain is None:
        return None if row.config else 0.0
    # None done yet: all of the hours are of the first.
    return row.pretrain.device_hours / max(pretrainings(row), 1) or None


def _scale_hours(axes: Axes, spent: list[float], with_given: bool) -> float:
    """Scale the axis of hours; where on it given weights stand."""
    if max(spent) > 10 * min(spent):
        axes.set_xscale('log')
        low, high = min(spent) / 1.5, max(spent) * 1.5
        ticks = LogLocator(subs=(1,) if high > 50 * low else (1, 2, 5))
        given, left = low * (low / high) ** 0.15, low * (low / high) ** 0.3
    else:
        low, high = 0.0, 1.1 * max(spent)
        ticks = MaxNLocator(5)
        given, left = -0.15 * high, -0.3 * high
    ticks = [t for t in ticks.tick_values(low, high) if low <= t <= high]
    names = [f'{tick:g}' for tick in ticks]
    axes.set_xlim(left if with_given else low, high)
    if with_given:
        # Not on the scale: what they cost elsewhere is not known here.
        axes.axvspan(left, low, color='#eeeeee', lw=0)
        ticks, names = [given, *ticks], ['given\nweights', *names]
    axes.set_xticks(ticks, names)
    axes.minorticks_off()
    return given


def _label_points(axes: Axes, ends: list[tuple[float, float, Look]]) -> None:
    """Names in a column on the right, in order of height, none on another."""
    bottom, top = axes.get_ylim()
    # At least a twentieth, so that noise does not fill the picture.
    extra = max(0.1 * (top - bottom), 0.025 * top - (top - bottom) / 2)
    bottom, top = bottom - extra, top + extra
    axes.set_ylim(bottom, top)
    heights = [(y - bottom) / (top - bottom) for y, _, _ in ends]
    lines = [look.label.count('\n') + 1 for _, _, look in ends]
    for place, (y, x, look) in zip(_spread(heights, lines), ends, strict=True):
        axes.annotate(
            look.label,
            (x, y),
            xytext=(1.04, place),
            textcoords='axes fraction',
            va='center',
            fontsize=7.5,
            color=look.color,
            arrowprops=dict(
                arrowstyle='-', color=look.color, lw=0.5, alpha=0.5
            ),
        )


def _spread(heights: list[float], lines: list[int]) -> list[float]:
    """Rising heights in 0 to 1, moved apart to leave room for lines.

    Example:
        >>> [round(h, 3) for h in _spread([0.5, 0.5], [1, 1])]
        [0.465, 0.535]
    """
    room = 0.035 * np.array(lines)
    # Centres on a scale where neighbours touch if they are equal.
    offsets = np.cumsum(2 * room) - room - room[0]
    free = np.array(heights) - offsets
    # Halfway between all moved up and all moved down, both in order.
    up = np.maximum.accumulate(free)
    down = np.minimum.accumulate(free[::-1])[::-1]
    middle = (up + down) / 2
    places = np.clip(middle, 0, max(1 - offsets[-1], 0)) + offsets
    return places.tolist()
