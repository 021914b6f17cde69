"""Tables as Markdown, as CSV and as a page of HTML."""

from __future__ import annotations

import csv
import io
import json
import re
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from reproduction import charts
from reproduction.tables import Cell, Column, Row, Table, number

TEMPLATE = Path(__file__).with_name('page.html.j2')
NOTHING = '–'
COST_HEADINGS = (
    'pre-trainings',
    'device hours',
    'device',
    'peak memory, GiB',
    'images/s',
    'fine-tuning, device hours',
    'config and options',
    'checkpoint, SHA-256',
)


def compact(value: float | None) -> str:
    """Write the digits of a cost that matter.

    Example:
        >>> compact(1234.5), compact(12.345), compact(0.01234)
        ('1234', '12.3', '0.012')
    """
    if value is None:
        return NOTHING
    if value < 1:
        return f'{value:.2g}'
    return f'{value:.1f}' if value < 100 else f'{value:.0f}'


def published_marks(
    cell: Cell, sources: dict[str, int]
) -> list[tuple[str, int]]:
    """List published numbers of a cell with the numbers of their sources."""
    return [
        (number(p.value) or 'n/a', sources[p.source]) for p in cell.published
    ]


def notes_of(table: Table) -> list[str]:
    """List what a reader of a table must know, in sentences."""
    notes = [
        'A cell is the mean ± the sample standard deviation over seeds, whose '
        'number stands in brackets.'
    ]
    cells = [(row, row.cell(c)) for row in table.rows for c in table.columns]
    shared = [
        f'{row.key.method} ({row.key.pretrain_set})'
        for row, cell in cells
        if 0 < cell.pretrainings < len(cell.values)
    ]
    if shared:
        notes.append(
            'Seeds share pre-trainings, so that the deviation may be less '
            'than that of whole repetitions: '
            f'{", ".join(dict.fromkeys(shared))}.'
        )
    published = [item for _, cell in cells for item in cell.published]
    if published:
        notes.append(
            'Published numbers are of others, with the same protocol, images '
            'and length.'
        )
    if any(item.value is None for item in published):
        notes.append('n/a: published there, but not available here.')
    return notes


def cost_rows(table: Table) -> list[tuple[Row, list[str | list[str]]]]:
    """List rows that have costs or a config, with their cells.

    The cells are those of ``COST_HEADINGS``; the last two are lists of code.
    """
    lines = []
    for row in table.rows:
        cost, fine = row.pretrain, row.finetune
        if not (cost or fine or row.config):
            continue
        options = [f'{key}={value}' for key, value in row.options.items()]
        cells = [
            str(row.pretrainings or NOTHING),
            compact(cost and cost.device_hours),
            row.device or NOTHING,
            compact(cost and cost.memory_gib),
            compact(cost and cost.images_per_second),
            compact(fine and fine.device_hours),
            [row.config, *options] if row.config else options,
            [digest[:12] for digest in row.checkpoints],
        ]
        lines.append((row, cells))
    return lines


def to_csv(tables: list[Table]) -> str:
    """Write a line for each cell of each table, for other programs."""
    lines = [
        _csv_line(table, row, column)
        for table in tables
        for row in table.rows
        for column in table.columns
    ]
    if not lines:
        return ''
    text = io.StringIO()
    writer = csv.DictWriter(text, lines[0].keys(), lineterminator='\n')
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()


def _csv_line(table: Table, row: Row, column: Column) -> dict[str, Any]:
    method, pretrain_set, epochs = row.key
    cell, cost, fine = row.cell(column), row.pretrain, row.finetune
    published = [number(p.value) or 'n/a' for p in cell.published]
    # A semicolon within a source would make two of one.
    sources = [p.source.replace(';', ',') for p in cell.published]
    return dict(
        table=table.name,
        method=method,
        pretrain_set=pretrain_set,
        epochs=epochs,
        benchmark=column.benchmark,
        protocol=column.protocol,
        metric=column.metric,
        mean=number(cell.mean),
        std=number(cell.std),
        n=len(cell.values),
        wanted=cell.wanted,
        pretrainings=cell.pretrainings,
        values=';'.join(map(number, cell.values)),
        published=';'.join(published),
        published_source=';'.join(sources),
        pretrain_device_hours=number(cost and cost.device_hours),
        finetune_device_hours=number(fine and fine.device_hours),
        device=row.device,
        peak_memory_gib=number(cost and cost.memory_gib),
        images_per_second=number(cost and cost.images_per_second),
        config=row.config,
        options=json.dumps(row.options, sort_keys=True, default=str),
        checkpoint_sha256=';'.join(row.checkpoints),
    )


def to_markdown(tables: list[Table]) -> str:
    """Write tables for a README, with sources, protocols and costs."""
    return '\n'.join(line for table in tables for line in _markdown(table))


def _markdown(table: Table) -> list[str]:
    sources = table.sources
    head = ['method', 'pre-trained on', 'epochs']
    for column in table.columns:
        head.append(_escape(f'{column.benchmark}, {column.metric}'))
        head += ['published'] * table.has_published(column)
    body = []
    for row in table.rows:
        epochs = row.key.epochs
        line = [*_row_start(row), NOTHING if epochs is None else str(epochs)]
        for column in table.columns:
            cell = row.cell(column)
            line.append(str(cell))
            if table.has_published(column):
                marks = published_marks(cell, sources)
                line.append(', '.join(f'{v} [{n}]' for v, n in marks))
        body.append(line)
    notes = [
        *notes_of(table),
        *(f'{b}: {p}' for b, p in table.protocols.items()),
    ]
    lines = [f'## {_escape(table.title)}', '', *_grid(head, body), '']
    lines += [f'- {_escape(note)}' for note in notes]
    lines += [f'- [{n}] {_escape(source)}' for source, n in sources.items()]
    costs = [
        [*_row_start(row), *map(_markdown_cost, cells)]
        for row, cells in cost_rows(table)
    ]
    if costs:
        head = ['method', 'pre-trained on', *COST_HEADINGS]
        lines += ['', '### Cost', '', *_grid(head, costs)]
    return [*lines, '']


def _grid(head: list[str], body: list[list[str]]) -> list[str]:
    lines = [head, ['---'] * len(head), *body]
    return [f'| {" | ".join(line)} |' for line in lines]


def _row_start(row: Row) -> list[str]:
    suffix = '' if row.is_ours else ' (published by others)'
    return [_escape(row.key.method) + suffix, _escape(row.key.pretrain_set)]


def _markdown_cost(cell: str | list[str]) -> str:
    if isinstance(cell, str):
        return _escape(cell)
    # A bar ends a cell even within code.
    codes = [f'`{code}`'.replace('|', r'\|') for code in cell]
    return ' '.join(codes) or NOTHING


def _escape(text: str) -> str:
    """Write text so that Markdown makes no tags, emphasis or cells of it."""
    text = text.replace('&', '&amp;').replace('<', '&lt;')
    return re.sub(r'([|*_`\[\]\\])', r'\\\1', ' '.join(text.split()))


def to_html(
    title: str,
    tables: list[Table],
    missing: list[str],
    created: str,
    command: str,
) -> str:
    """Write a page of HTML (XML as well) that needs no other file.

    Args:
        title (str): Heading.
        tables (list[Table]): Results so far.
        missing (list[str]): Sentences about what is missing.
        created (str): Date and time.
        command (str): Command that repeats it all.
    """
    styles = charts.row_styles(tables)
    environment = Environment(
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    template = environment.from_string(TEMPLATE.read_text(encoding='utf-8'))
    losses = charts.draw_losses(tables, styles)
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
        sections=[
            dict(
                table=table,
                sources=table.sources,
                groups=_column_groups(table),
                notes=notes_of(table),
                costs=cost_rows(table),
                bars=_pictures(table, 'bars', charts.draw_bars, styles),
                cost_charts=_pictures(
                    table, 'costs', charts.draw_costs, styles
                ),
            )
            for table in tables
        ],
        losses=losses and _picture(losses, 'losses', 'Losses'),
        cost_headings=COST_HEADINGS,
        published_marks=published_marks,
    )


def _column_groups(table: Table) -> list[tuple[str, int]]:
    """List benchmarks of neighbouring columns, with how many they span."""
    groups = []
    for benchmark, group in groupby(table.columns, lambda c: c.benchmark):
        spans = [1 + table.has_published(column) for column in group]
        groups.append((benchmark, sum(spans)))
    return groups


def _pictures(table: Table, kind: str, draw: Any, styles: dict) -> list:
    """Draw a kind of chart for each column that has something to show."""
    figures = [draw(table, column, styles) for column in table.columns]
    return [
        _picture(
            figure,
            f'{kind}-{table.name}-{index}',
            f'{column.benchmark}: {column.metric}',
        )
        for index, (figure, column) in enumerate(
            zip(figures, table.columns, strict=True)
        )
        if figure is not None
    ]


def _picture(figure: Any, name: str, title: str) -> Markup:
    # Its text was escaped when it was drawn.
    return Markup(charts.to_svg(figure, name, title))
