"""Scores of a benchmark as bars."""

from __future__ import annotations

import math

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from reproduction.charts import (
    STYLE,
    Key,
    Look,
    heading,
    is_finite,
    key_of,
)
from reproduction.formats import cell_of, cell_text, shown
from reproduction.results import Cell, Column, Row, Table


@matplotlib.rc_context(STYLE)
def bars(
    table: Table, column: Column, looks: dict[Key, Look]
) -> Figure | None:
    """Means from zero with deviations, seeds and published numbers.

    Args:
        table (Table): Rows that have no number in any column are left out.
        column (Column): Which of its metrics.
        looks (dict): From :func:`looks_of`.

    Returns:
        Figure | None: None if the column has no number at all.
    """
    rows = [
        row
        for row in table.rows
        if _numbers(cell_of(row, column))
        or (row.is_ours and any(map(_numbers, row.cells.values())))
    ]
    numbers = [n for r in rows for n in _numbers(cell_of(r, column))]
    if not numbers:
        return None
    lines = [looks[key_of(row)].label.count('\n') for row in rows]
    height = 0.75 + 0.3 * len(rows) + 0.06 * sum(lines)
    figure = Figure(figsize=(4.4, height), layout='constrained')
    axes = figure.add_subplot()
    for y, row in enumerate(rows):
        _draw_bar(axes, y, row, cell_of(row, column), looks[key_of(row)])
    axes.set_yticks(range(len(rows)), [looks[key_of(r)].label for r in rows])
    axes.tick_params(axis='y', length=0)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    # Room for the labels at the ends of the bars.
    high, low = max(*numbers, 0), min(*numbers, 0)
    axes.set_xlim(1.35 * low, 1.35 * high or 1)
    axes.set_title(heading(column))
    return figure


def _draw_bar(axes: Axes, y: int, row: Row, cell: Cell, look: Look) -> None:
    text, end = 'not run yet' if row.is_ours else '', 0.0
    if cell.values:
        text = cell_text(cell)
        if len(cell.values) >= cell.wanted:
            text = text.rpartition(' (')[0]
    if is_finite(cell):
        axes.barh(y, cell.mean, 0.5, color=look.color, alpha=0.5)
        axes.errorbar(
            cell.mean, y, xerr=cell.std, color='#222222', capsize=3, lw=1
        )
        # One below the other: seeds differ by less than a dot is wide.
        lanes = y + 0.17 * np.linspace(-1, 1, len(cell.values))
        axes.plot(cell.values, lanes, 'o', ms=2.2, color=look.color)
        end = max(*cell.values, cell.mean + (cell.std or 0))
    values = [p.value for p in cell.published if p.value is not None]
    if values:
        lane = y + 0.28 if cell.values else y
        axes.plot(
            values, [lane] * len(values), 'D', ms=4, mfc='white', mec='#222222'
        )
        end = max(end, *values)
        if not cell.values:
            text = ', '.join(shown(v) for v in values) + ' published'
    axes.annotate(
        text,
        (end, y),
        xytext=(6, 0),
        textcoords='offset points',
        va='center',
        fontsize=7.5,
        color='#222222' if end else '#777777',
    )


def _numbers(cell: Cell) -> list[float]:
    """All there is to draw of a cell."""
    own = [*cell.values, cell.mean + (cell.std or 0)] if cell.values else []
    numbers = own + [p.value for p in cell.published if p.value is not None]
    return [n for n in numbers if math.isfinite(n)]
