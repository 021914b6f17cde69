"""Tables, charts and costs as one page that needs no other file."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from reproduction import charts, formats
from reproduction.bar_chart import bars
from reproduction.cost_chart import costs
from reproduction.loss_chart import losses
from reproduction.results import Column, Row, Table

TEMPLATE = Path(__file__).with_name('page.html.j2')


def page(
    title: str,
    tables: list[Table],
    missing: list[str],
    created: str,
    command: str,
) -> str:
    """The page, as HTML that is XML as well.

    Args:
        title (str): Heading.
        tables (list[Table]): What is there so far.
        missing (list[str]): What is not, a sentence each.
        created (str): Date and time, for the reader.
        command (str): What repeats it all.
    """
    looks = charts.looks_of(tables)
    curves = losses(tables, looks)
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.from_string(TEMPLATE.read_text(encoding='utf-8'))
    return template.render(
        title=title,
        created=created,
        command=command,
        missing=missing,
        is_empty=not any(
            cell.values or cell.published
            for table in tables
            for row in table.rows
            for cell in row.cells.values()
        ),
        sections=[_section(table, looks) for table in tables],
        losses=curves and _picture(curves, 'losses', 'Losses'),
        cost_headings=formats.COST_HEADINGS,
    )


def _section(table: Table, looks: dict[charts.Key, charts.Look]) -> dict:
    """What the template needs of a table."""
    sources = formats.sources_of(table)
    return dict(
        name=table.name,
        title=table.title,
        groups=_groups(table),
        columns=[
            dict(
                metric=column.metric,
                has_published=formats.has_published(table, column),
            )
            for column in table.columns
        ],
        rows=[_row(table, row, sources) for row in table.rows],
        notes=formats.notes_of(table),
        protocols=formats.protocols_of(table),
        sources=sources,
        costs=[
            dict(row=row, cells=formats.cost_cells(row))
            for row in formats.cost_rows(table)
        ],
        bars=_pictures(table, looks, bars),
        cost_charts=_pictures(table, looks, costs),
    )


def _groups(table: Table) -> list[dict[str, Any]]:
    """Headings above neighbouring columns of one benchmark."""
    groups = []
    for benchmark, columns in groupby(table.columns, lambda c: c.benchmark):
        columns = list(columns)
        beside = sum(formats.has_published(table, c) for c in columns)
        groups.append(dict(title=benchmark, span=len(columns) + beside))
    return groups


def _row(table: Table, row: Row, sources: dict[str, int]) -> dict[str, Any]:
    cells = []
    for column in table.columns:
        cell = formats.cell_of(row, column)
        mean, bracket, rest = formats.cell_text(cell).partition(' (')
        cells.append(
            dict(
                mean=mean,
                seeds=bracket + rest,
                has_published=formats.has_published(table, column),
                published=formats.published_marks(cell, sources),
            )
        )
    return dict(row=row, cells=cells)


def _pictures(table: Table, looks: dict, draw: Any) -> list[Markup]:
    """A kind of chart for each column that has something to show."""
    pictures = []
    for index, column in enumerate(table.columns):
        figure = draw(table, column, looks)
        if figure is not None:
            name = f'{draw.__name__}-{table.name}-{index}'
            pictures.append(_picture(figure, name, _spoken(column)))
    return pictures


def _spoken(column: Column) -> str:
    return f'{column.benchmark}: {column.metric}'


def _picture(figure: Any, name: str, title: str) -> Markup:
    # Text within it was escaped when it was drawn.
    return Markup(charts.svg(figure, name, title))
