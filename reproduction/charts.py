"""Charts of tables: scores as bars, losses, and cost against score."""

from __future__ import annotations

import html
import io
import math
import re
import textwrap
from collections import Counter
from dataclasses import dataclass

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pixcon_mm.visualization.curves import Records, smooth, smoothing
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
    'svg.fonttype': 'none',  # text stays text: small, and can be searched
    'svg.hashsalt': 'pixcon_mm',  # the same chart gives the same text
}
# Distinct for colour-blind eyes too (Paul Tol's muted, and three more).
COLORS = (
    *('#332288', '#117733', '#cc6677', '#0077aa', '#aa4499', '#999933'),
    *('#882255', '#44aa99', '#ddaa33', '#555555', '#994f00'),
)
MARKERS = 'osD^vP'
LINES = ('-', '--', ':', '-.')


@dataclass(frozen=True)
class RowStyle:
    """Label, colour and marker of a row in all charts."""

    label: str
    color: str
    marker: str


Styles = dict[RowKey, RowStyle]


def row_styles(tables: list[Table]) -> Styles:
    """Choose a style for each row; labels hold no more than is needed."""
    keys = list(dict.fromkeys(row.key for t in tables for row in t.rows))
    methods = Counter(key.method for key in keys)
    pairs = Counter(key[:2] for key in keys)
    styles = {}
    for index, key in enumerate(keys):
        label = key.method
        if methods[key.method] > 1:
            label += f', {key.pretrain_set}'
        if pairs[key[:2]] > 1:
            epochs = f'{key.epochs} epochs' if key.epochs else 'epochs unknown'
            label += f', {epochs}'
        styles[key] = RowStyle(
            textwrap.fill(label, 24),
            COLORS[index % len(COLORS)],
            MARKERS[index // len(COLORS) % len(MARKERS)],
        )
    return styles


def to_svg(figure: Figure, name: str, title: str) -> str:
    """Write a figure as text of a page, the same one every time.

    Args:
        figure (Figure): A chart.
        name (str): Prefix of its ids, which must differ within a page.
        title (str): Text for screen readers.
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


def _heading(column: Column) -> str:
    return textwrap.fill(f'{column.benchmark}: {column.metric}', 60)


@matplotlib.rc_context(RC)
def draw_bars(table: Table, column: Column, styles: Styles) -> Figure | None:
    """Draw means as bars, with deviations, seeds and published numbers.

    Rows without any number are left out; None if the column has no number.
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
    text, end = 'not run yet' if row.is_ours else '', 0.0
    if cell.values:
        text = str(cell)
        if len(cell.values) >= cell.wanted:
            text = text.rpartition(' (')[0]
    if _is_finite(cell):
        axes.barh(y, cell.mean, 0.5, color=color, alpha=0.5)
        axes.errorbar(
            cell.mean, y, xerr=cell.std, color='#222222', capsize=3, lw=1
        )
        # One below the other: seeds differ by less than a dot is wide.
        lanes = y + 0.17 * np.linspace(-1, 1, len(cell.values))
        axes.plot(cell.values, lanes, 'o', ms=2.2, color=color)
        end = max(*cell.values, cell.mean + (cell.std or 0))
    values = [p.value for p in cell.published if p.value is not None]
    if values:
        lane = y + 0.28 if cell.values else y
        axes.plot(
            values, [lane] * len(values), 'D', ms=4, mfc='white', mec='#222222'
        )
        end = max(end, *values)
        if not cell.values:
            text = f'{", ".join(map(score, values))} published'
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
    """List all numbers that can be drawn of a cell."""
    own = [*cell.values, cell.mean + (cell.std or 0)] if cell.values else []
    numbers = own + [p.value for p in cell.published if p.value is not None]
    return [n for n in numbers if math.isfinite(n)]


def _is_finite(cell: Cell) -> bool:
    return cell.mean is not None and math.isfinite(cell.mean)


@matplotlib.rc_context(RC)
def draw_costs(table: Table, column: Column, styles: Styles) -> Figure | None:
    """Draw scores against device hours of one pre-training.

    Rows of existing weights, whose cost is not known here, are lines across.
    None if no pre-training has both a cost and a score.
    """
    rows = [r for r in table.rows if r.is_ours and _is_finite(r.cell(column))]
    hours = {row.key: hours_of(row) for row in rows}
    spent = [value for value in hours.values() if value]
    if not spent:
        return None
    figure = Figure(figsize=(4.4, 2.9), layout='constrained')
    axes = figure.add_subplot(title=_heading(column))
    axes.set_xlabel('device hours of a pre-training')
    for row in rows:
        cell, style = row.cell(column), styles[row.key]
        look = dict(color=style.color, label=style.label)
        if hours[row.key]:
            axes.errorbar(
                hours[row.key],
                cell.mean,
                yerr=cell.std,
                fmt=style.marker,
                capsize=3,
                ms=5,
                lw=1,
                **look,
            )
        elif not row.config:
            axes.axhline(cell.mean, linestyle='--', lw=1, **look)
    axes.grid(axis='y', alpha=0.3)
    if max(spent) > 10 * min(spent):
        axes.set_xscale('log')
    else:
        axes.set_xlim(0, 1.1 * max(spent))
    # At least a twentieth, so that noise does not fill the picture.
    bottom, top = axes.get_ylim()
    extra = max(0, 0.025 * top - (top - bottom) / 2)
    axes.set_ylim(bottom - extra, top + extra)
    figure.legend(loc='outside right upper', frameon=False)
    return figure


def hours_of(row: Row) -> float | None:
    """Compute the device hours of one pre-training; None if unknown."""
    if row.pretrain is None:
        return None
    # None is complete yet: all of the hours are of the first.
    return row.pretrain.device_hours / max(row.pretrainings, 1) or None


@matplotlib.rc_context(RC)
def draw_losses(tables: list[Table], styles: Styles) -> Figure | None:
    """Draw smoothed losses of all pre-trainings; None without any."""
    curves = {
        (row.key, seed): _smoothed(records)
        for table in tables
        for row in table.rows
        for seed, records in row.curves.items()
        if records
    }
    if not curves:
        return None
    keys = list(dict.fromkeys(key for key, _ in curves))
    seeds = sorted({seed for _, seed in curves})
    dash = {seed: LINES[i % len(LINES)] for i, seed in enumerate(seeds)}
    figure = Figure(figsize=(5, 3.2 + 0.1 * len(keys)), layout='constrained')
    axes = figure.add_subplot(xlabel='iteration', ylabel='loss')
    for (key, seed), curve in curves.items():
        axes.plot(*curve, dash[seed], lw=1.2, color=styles[key].color)
    axes.grid(alpha=0.3)
    axes.locator_params(axis='x', nbins=6)
    handles = [Line2D([], [], color=styles[key].color) for key in keys]
    labels = [styles[key].label.replace('\n', ' ') for key in keys]
    handles += [Line2D([], [], color='#222222', ls=dash[s]) for s in seeds]
    figure.legend(
        handles,
        labels + [f'seed {seed}' for seed in seeds],
        loc='outside lower center',
        ncols=2,
        frameon=False,
    )
    return figure


def _smoothed(records: Records) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and losses, no more than a small picture shows."""
    steps = np.array([record['step'] for record in records])
    values = np.array([record['loss'] for record in records], dtype=float)
    values = smooth(values, smoothing(len(values)))
    every = math.ceil(len(values) / 300)
    # The last one stays in: it is what readers look for.
    kept = np.arange(len(values) - 1, -1, -every)[::-1]
    return steps[kept], values[kept]
