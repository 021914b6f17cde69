"""Charts of tables: scores as bars, losses, and score against cost."""

from __future__ import annotations

import html
import io
import math
import re
import textwrap
from collections import Counter
from typing import NamedTuple

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pixcon_mm.visualization.curves import smooth
from reproduction.published import RowKey
from reproduction.tables import Cell, Column, Row, Table, score

RC = {
    'font.size': 8,
    'axes.spines.top': False,
    'axes.spines.right': False,
    'axes.titlesize': 9,
    'axes.titlelocation': 'left',
    'axes.edgecolor': '#888888',
    'text.parse_math': False,  # a title may hold a dollar sign
    'svg.fonttype': 'none',  # keep text as text, which is small and searchable
    'svg.hashsalt': 'pixcon_mm',  # makes the ids the same in every run
}
# Colours that colour-blind people can distinguish (Paul Tol's muted colours,
# and three more).
COLORS = (
    *('#332288', '#117733', '#cc6677', '#0077aa', '#aa4499', '#999933'),
    *('#882255', '#44aa99', '#ddaa33', '#555555', '#994f00'),
)
MARKERS = 'osD^vP'


class RowStyle(NamedTuple):
    """Label, colour and marker of a row in all charts."""

    label: str
    color: str
    marker: str


Styles = dict[RowKey, RowStyle]


def row_styles(tables: list[Table]) -> Styles:
    """Choose a style for each row, with the shortest distinct label."""
    keys = list(dict.fromkeys(row.key for t in tables for row in t.rows))
    methods = Counter(key.method for key in keys)
    pairs = Counter(key[:2] for key in keys)
    styles = {}
    for index, key in enumerate(keys):
        label = key.method
        if methods[key.method] > 1:
            label += f', {key.pretrain_set}'
        if pairs[key[:2]] > 1:
            label += f', {key.epochs or "unknown"} epochs'
        styles[key] = RowStyle(
            textwrap.fill(label, 24),
            COLORS[index % len(COLORS)],
            MARKERS[index // len(COLORS) % len(MARKERS)],
        )
    return styles


def to_svg(figure: Figure, name: str, title: str) -> str:
    """Write a figure as SVG for an HTML page, the same text in every run.

    Args:
        figure (Figure): The figure.
        name (str): Prefix of its ids, which must be unique in a page.
        title (str): Title for screen readers.
    """
    file = io.StringIO()
    nothing = dict.fromkeys(('Creator', 'Date', 'Format', 'Type'))
    with matplotlib.rc_context(RC):
        figure.savefig(file, format='svg', metadata=nothing)
    text = file.getvalue()
    text = text[text.index('<svg') :]
    text = re.sub(r'(\bid="|href="#|url\(#)', rf'\g<1>{name}-', text)
    label = html.escape(title)
    return text.replace('<svg', f'<svg role="img" aria-label="{label}"', 1)


@matplotlib.rc_context(RC)
def draw_bars(table: Table, column: Column, styles: Styles) -> Figure | None:
    """Draw means as bars, with deviations, seeds and published numbers.

    Rows without numbers are left out, except our rows that have a number in
    another column. Returns None if the column has no number.
    """
    rows = [
        row
        for row in table.rows
        if _numbers(row.cell(column))
        or (row.is_ours and any(map(_numbers, row.cells.values())))
    ]
    numbers = [n for row in rows for n in _numbers(row.cell(column))]
    if not numbers:
        return None
    labels = [styles[row.key].label for row in rows]
    lines = sum(label.count('\n') for label in labels)
    height = 0.75 + 0.3 * len(rows) + 0.06 * lines
    figure = Figure(figsize=(4.4, height), layout='constrained')
    axes = figure.add_subplot(title=_heading(column))
    for y, row in enumerate(rows):
        _draw_bar(axes, y, row, row.cell(column), styles[row.key].color)
    axes.set_yticks(range(len(rows)), labels)
    axes.tick_params(axis='y', length=0)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    # Room for the labels at the ends of the bars.
    high, low = max(*numbers, 0), min(*numbers, 0)
    axes.set_xlim(1.35 * low, 1.35 * high or 1)
    return figure


def _draw_bar(axes: Axes, y: int, row: Row, cell: Cell, color: str) -> None:
    published = [p.value for p in cell.published if p.value is not None]
    text = 'not run yet' if row.is_ours else ''
    if published:
        text = f'{", ".join(map(score, published))} published'
    if cell.values:
        text = str(cell).removesuffix(f' ({cell.wanted})')
        axes.barh(y, cell.mean, 0.5, color=color, alpha=0.5)
        axes.errorbar(
            cell.mean, y, xerr=cell.std, color='#222222', capsize=3, lw=1
        )
        # Draw the seeds one below the other, because they often differ by less
        # than the width of a dot.
        lanes = y + 0.17 * np.linspace(-1, 1, len(cell.values))
        axes.plot(cell.values, lanes, 'o', ms=2.2, color=color)
    for value in published:
        lane = y + 0.28 if cell.values else y
        axes.plot(value, lane, 'D', ms=4, mfc='white', mec='#222222')
    axes.annotate(
        text,
        (max(_numbers(cell), default=0.0), y),
        xytext=(6, 0),
        textcoords='offset points',
        va='center',
        fontsize=7.5,
    )


def _numbers(cell: Cell) -> list[float]:
    """List all numbers that a bar chart shows for a cell."""
    numbers = [p.value for p in cell.published if p.value is not None]
    if cell.values:
        numbers += [*cell.values, cell.mean + (cell.std or 0)]
    return numbers


def _heading(column: Column) -> str:
    return textwrap.fill(f'{column.benchmark}: {column.metric}', 60)


@matplotlib.rc_context(RC)
def draw_costs(table: Table, column: Column, styles: Styles) -> Figure | None:
    """Draw scores against device hours of one pre-training.

    Rows of existing weights, with unknown cost, are horizontal lines. Returns
    None if no pre-training has both a cost and a score.
    """
    rows = [r for r in table.rows if r.is_ours and r.cell(column).values]
    spent = [hours for hours in map(hours_of, rows) if hours]
    if not spent:
        return None
    figure = Figure(figsize=(4.4, 2.9), layout='constrained')
    axes = figure.add_subplot(title=_heading(column))
    axes.set_xlabel('device hours of a pre-training')
    for row in rows:
        cell, (label, color, marker) = row.cell(column), styles[row.key]
        style = dict(color=color, label=label, lw=1)
        hours = hours_of(row)
        if hours:
            point = dict(fmt=marker, yerr=cell.std, capsize=3, ms=5)
            axes.errorbar(hours, cell.mean, **point, **style)
        elif not row.config:
            axes.axhline(cell.mean, linestyle='--', **style)
    axes.grid(axis='y', alpha=0.3)
    if max(spent) > 10 * min(spent):
        axes.set_xscale('log')
    else:
        axes.set_xlim(0, 1.1 * max(spent))
    # The axis covers at least a twentieth of its top value, so that noise
    # does not fill the chart.
    bottom, top = axes.get_ylim()
    extra = max(0, 0.025 * top - (top - bottom) / 2)
    axes.set_ylim(bottom - extra, top + extra)
    figure.legend(loc='outside right upper', frameon=False)
    return figure


def hours_of(row: Row) -> float | None:
    """Return the mean device hours of a pre-training; None if unknown."""
    if row.pretrain is None:
        return None
    # If no pre-training has begun to log, count the hours as those of one.
    return row.pretrain.device_hours / max(row.pretrainings, 1) or None


@matplotlib.rc_context(RC)
def draw_losses(tables: list[Table], styles: Styles) -> Figure | None:
    """Draw smoothed losses, a line for each seed; None if there are none."""
    curves = {
        row.key: [records for records in row.curves.values() if records]
        for table in tables
        for row in table.rows
        if any(row.curves.values())
    }
    if not curves:
        return None
    height = 3.2 + 0.1 * len(curves)
    figure = Figure(figsize=(5, height), layout='constrained')
    axes = figure.add_subplot(xlabel='iteration', ylabel='loss')
    for key, seeds in curves.items():
        label = styles[key].label.replace('\n', ' ')
        for records in seeds:
            steps = np.array([record['step'] for record in records])
            losses = smooth(np.array([record['loss'] for record in records]))
            # Draw about 300 points, which is enough for a small chart, and
            # always the last one.
            every = -math.ceil(len(losses) / 300)
            color = styles[key].color
            steps, losses = steps[::every], losses[::every]
            axes.plot(steps, losses, lw=1.2, color=color, label=label)
            label = None  # a single entry in the legend
    axes.grid(alpha=0.3)
    axes.locator_params(axis='x', nbins=6)
    figure.legend(loc='outside lower center', ncols=2, frameon=False)
    return figure
