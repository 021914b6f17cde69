"""Charts of tables: scores, loss curves, cost against score."""

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
from matplotlib.ticker import LogLocator, MaxNLocator

from pixcon_mm.reproduce.formats import cell_of, cell_text, pretrainings, shown
from pixcon_mm.reproduce.results import Cell, Column, Row, Table
from pixcon_mm.visualization.curves import smooth, smoothing

STYLE = {
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
# Apart for colour-blind eyes too (Paul Tol's muted, and three more).
COLORS = (
    *('#332288', '#117733', '#cc6677', '#0077aa', '#aa4499', '#999933'),
    *('#882255', '#44aa99', '#ddaa33', '#555555', '#994f00'),
)
MARKERS = 'osD^vP'
LINES = ('-', '--', ':', '-.')
Key = tuple[str, str, int | None]


@dataclass(frozen=True)
class Look:
    """How a row looks in all charts."""

    label: str
    color: str
    marker: str


def key_of(row: Row) -> Key:
    """What makes a row the same in several tables."""
    return row.title, row.images, row.epochs


def looks_of(tables: list[Table]) -> dict[Key, Look]:
    """A look for each row; labels say no more than tells rows apart."""
    keys = list(dict.fromkeys(key_of(r) for t in tables for r in t.rows))
    titles = Counter(title for title, _, _ in keys)
    pairs = Counter((title, images) for title, images, _ in keys)
    looks = {}
    for index, (title, images, epochs) in enumerate(keys):
        label = title
        if titles[title] > 1:
            label += f', {images}'
        if pairs[title, images] > 1:
            label += f', {epochs} epochs' if epochs else ', epochs unknown'
        looks[title, images, epochs] = Look(
            textwrap.fill(label, 24),
            COLORS[index % len(COLORS)],
            MARKERS[index // len(COLORS) % len(MARKERS)],
        )
    return looks


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
    axes.set_title(_heading(column))
    return figure


def _draw_bar(axes: Axes, y: int, row: Row, cell: Cell, look: Look) -> None:
    text, end = 'not run yet' if row.is_ours else '', 0.0
    if cell.values:
        text = cell_text(cell)
        if len(cell.values) >= cell.wanted:
            text = text.rpartition(' (')[0]
    if _is_finite(cell):
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
        and _is_finite(cell_of(row, column))
        and hours_of(row) is not None
    ]
    spent = [hours_of(row) for row in rows if hours_of(row)]
    if not spent:
        return None
    figure = Figure(figsize=(4.4, 2.9), layout='constrained')
    axes = figure.add_subplot(title=_heading(column))
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


def svg(figure: Figure, name: str, title: str) -> str:
    """A figure as text to put into a page, the same one every time.

    Args:
        figure (Figure): From a function of this module.
        name (str): Set before the ids, which must differ within a page.
        title (str): Read out in place of the picture.
    """
    file = io.StringIO()
    nothing = dict.fromkeys(('Creator', 'Date', 'Format', 'Type'))
    with matplotlib.rc_context(STYLE):
        figure.savefig(file, format='svg', metadata=nothing)
    text = file.getvalue()
    text = text[text.index('<svg') :]
    text = re.sub(r'(\bid="|href="#|url\(#)', rf'\g<1>{name}-', text)
    label = html.escape(title)
    return text.replace('<svg', f'<svg role="img" aria-label="{label}"', 1)


def _numbers(cell: Cell) -> list[float]:
    """All there is to draw of a cell."""
    own = [*cell.values, cell.mean + (cell.std or 0)] if cell.values else []
    numbers = own + [p.value for p in cell.published if p.value is not None]
    return [n for n in numbers if math.isfinite(n)]


def _is_finite(cell: Cell) -> bool:
    return cell.mean is not None and math.isfinite(cell.mean)


def _heading(column: Column) -> str:
    return textwrap.fill(f'{column.benchmark}: {column.metric}', 60)
