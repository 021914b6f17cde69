"""What the charts of tables share: how rows look, and SVG to put in a page."""

from __future__ import annotations

import html
import io
import math
import re
import textwrap
from collections import Counter
from dataclasses import dataclass

import matplotlib
from matplotlib.figure import Figure

from reproduction.results import Cell, Column, Row, Table

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


def svg(figure: Figure, name: str, title: str) -> str:
    """A figure as text to put into a page, the same one every time.

    Args:
        figure (Figure): A chart.
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


def is_finite(cell: Cell) -> bool:
    """Whether a cell has a mean that can be drawn."""
    return cell.mean is not None and math.isfinite(cell.mean)


def heading(column: Column) -> str:
    """Title of a chart of one column."""
    return textwrap.fill(f'{column.benchmark}: {column.metric}', 60)
