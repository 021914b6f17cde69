"""Tables as Markdown, CSV and an HTML page."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from reproduction import charts
from reproduction.differences import paired_difference
from reproduction.tables import Column, Row, Table, number

TEMPLATE = Path(__file__).with_name('page.html.j2')
NOTHING = '–'
# Rows of cells, beginning with the headings. A cell is text, or a list of
# texts to be shown as code.
Grid = list[list[str | list[str]]]


def score_grid(table: Table, with_published: bool = True) -> Grid:
    """Return a table's scores, with published numbers beside them."""
    sources = table.sources
    beside = [
        with_published and any(row.cell(c).published for row in table.rows)
        for c in table.columns
    ]
    head = ['method', 'pre-trained on', 'epochs']
    for column, is_beside in zip(table.columns, beside, strict=True):
        head.append(f'{column.benchmark}, {column.metric}')
        if is_beside:
            head.append('published')
    grid: Grid = [head]
    for row in table.rows:
        epochs = row.key.epochs
        line = [*_titles(row), NOTHING if epochs is None else str(epochs)]
        for column, is_beside in zip(table.columns, beside, strict=True):
            cell = row.cell(column)
            line.append(str(cell))
            if is_beside:
                marks = [
                    f'{number(p.value) or "n/a"} [{sources[p.source]}]'
                    for p in cell.published
                ]
                line.append(', '.join(marks))
        grid.append(line)
    return grid


def difference_grids(table: Table) -> dict[str, Grid]:
    """Return the differences of a table's rows from each reference method."""
    head = ['method', 'pre-trained on']
    head += [f'{c.benchmark}, {c.metric}' for c in table.columns]
    grids: dict[str, Grid] = {}
    for title, pairs in table.references.items():
        grids[title] = [head]
        for row, reference in pairs:
            found = (
                paired_difference(row.cell(column), reference.cell(column))
                for column in table.columns
            )
            grids[title].append([*_titles(row), *map(str, found)])
    return grids


def cost_grid(table: Table) -> Grid:
    """Return cost and origin of the rows for which they are known."""
    grid: Grid = [
        [
            *('method', 'pre-trained on', 'pre-trainings', 'device hours'),
            *('device', 'peak memory, GiB', 'images/s'),
            *('fine-tuning, device hours', 'config and options'),
            'checkpoint, SHA-256',
        ]
    ]
    for row in table.rows:
        cost, fine = row.pretrain, row.finetune
        if not (cost or fine or row.config):
            continue
        options = [f'{key}={value}' for key, value in row.options.items()]
        grid.append(
            [
                *_titles(row),
                str(row.pretrainings or NOTHING),
                compact(cost and cost.device_hours),
                row.device or NOTHING,
                compact(cost and cost.memory_gib),
                compact(cost and cost.images_per_second),
                compact(fine and fine.device_hours),
                [row.config, *options] if row.config else options,
                [digest[:12] for digest in row.checkpoints],
            ]
        )
    return grid


def _titles(row: Row) -> list[str]:
    suffix = '' if row.is_ours else ' (published by others)'
    return [row.key.method + suffix, row.key.pretrain_set]


def compact(value: float | None) -> str:
    """Write a cost with two to four significant digits.

    Example:
        >>> compact(1234.5), compact(12.345), compact(0.01234)
        ('1234', '12.3', '0.012')
    """
    if value is None:
        return NOTHING
    if value < 1:
        return f'{value:.2g}'
    return f'{value:.1f}' if value < 100 else f'{value:.0f}'


def notes_of(table: Table) -> list[str]:
    """List what a reader of a table must know, in sentences."""
    notes = [
        'A cell is the mean ± the sample standard deviation over seeds, with '
        'the number of seeds in brackets.'
    ]
    cells = [(row, row.cell(c)) for row in table.rows for c in table.columns]
    shared = {
        f'{row.key.method} ({row.key.pretrain_set})': None
        for row, cell in cells
        if 0 < cell.pretrainings < len(cell.values)
    }
    if shared:
        notes.append(
            'Several seeds use the same pre-training, so that deviations and '
            'intervals show only the noise of fine-tuning, and may be smaller '
            'than with a pre-training for each seed: '
            f'{", ".join(shared)}.'
        )
    if table.references:
        notes.append(
            'A difference is row minus reference for the same seed. A cell '
            'has the mean over the seeds that both have, its 95 % confidence '
            "interval (Student's t, not corrected for the number of "
            'comparisons), and the number of seeds. With two seeds, each half '
            'of the interval is 6.4 times the distance between the two '
            'differences, which may be close by chance; with one seed there '
            'is no interval.'
        )
    published = [item for _, cell in cells for item in cell.published]
    if published:
        notes.append(
            'Published numbers are from other work, with the same protocol '
            'and images, and the same length where it is known.'
        )
    if any(item.value is None for item in published):
        notes.append('n/a: published, but the number is not available here.')
    notes += [f'{key}: {text}' for key, text in table.protocols.items()]
    return notes


def to_csv(tables: list[Table]) -> str:
    """Write a line for each cell of each table, for other programs."""
    lines = [
        _csv_line(table, row, column)
        for table in tables
        for row in table.rows
        for column in table.columns
    ]
    text = io.StringIO()
    if lines:
        writer = csv.DictWriter(text, lines[0].keys(), lineterminator='\n')
        writer.writeheader()
        writer.writerows(lines)
    return text.getvalue()


def _csv_line(table: Table, row: Row, column: Column) -> dict[str, Any]:
    cell, cost, fine = row.cell(column), row.pretrain, row.finetune
    published = [number(p.value) or 'n/a' for p in cell.published]
    # Semicolons separate sources, so a source must not contain one.
    sources = [p.source.replace(';', ',') for p in cell.published]
    differences = {
        title.replace(';', ','): paired_difference(cell, other.cell(column))
        for title, pairs in table.references.items()
        for one, other in pairs
        if one is row
    }
    intervals = [d.interval or (None, None) for d in differences.values()]
    return dict(
        table=table.name,
        **row.key._asdict(),
        benchmark=column.benchmark,
        protocol=column.protocol,
        metric=column.metric,
        mean=number(cell.mean),
        std=number(cell.std),
        n=len(cell.values),
        wanted=cell.wanted,
        pretrainings=cell.pretrainings,
        values=';'.join(map(number, cell.values)),
        compared_with=';'.join(differences),
        difference=';'.join(number(d.mean) for d in differences.values()),
        difference_low=';'.join(number(low) for low, _ in intervals),
        difference_high=';'.join(number(high) for _, high in intervals),
        difference_n=';'.join(
            str(len(d.values)) for d in differences.values()
        ),
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
    lines = []
    for table in tables:
        lines += [f'## {_escape(table.title)}', '']
        lines += [*_markdown_grid(score_grid(table)), '']
        lines += [f'- {_escape(note)}' for note in notes_of(table)]
        lines += [f'- [{n}] {_escape(s)}' for s, n in table.sources.items()]
        for title, grid in difference_grids(table).items():
            lines += ['', f'### Difference from {_escape(title)}', '']
            lines += _markdown_grid(grid)
        costs = cost_grid(table)
        if len(costs) > 1:
            lines += ['', '### Cost', '', *_markdown_grid(costs)]
        lines.append('')
    return '\n'.join(lines)


def _markdown_grid(grid: Grid) -> list[str]:
    head, *body = [[*map(_markdown_cell, line)] for line in grid]
    lines = [head, ['---'] * len(head), *body]
    return [f'| {" | ".join(line)} |' for line in lines]


def _markdown_cell(cell: str | list[str]) -> str:
    if isinstance(cell, str):
        return _escape(cell)
    # A bar ends a cell even within code.
    codes = [f'`{code}`'.replace('|', r'\|') for code in cell]
    return ' '.join(codes) or NOTHING


def _escape(text: str) -> str:
    """Escape characters that have a meaning in Markdown."""
    text = text.replace('&', '&amp;').replace('<', '&lt;')
    return re.sub(r'([|*_`\\]|\](?=[(\[]))', r'\\\1', ' '.join(text.split()))


def to_html(
    title: str,
    tables: list[Table],
    missing: list[str],
    created: str,
    command: str,
) -> str:
    """Write an HTML page, also valid as XML, that needs no other file."""
    styles = charts.row_styles(tables)
    losses = charts.draw_losses(tables, styles)
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
        sections=[
            dict(
                table=table,
                notes=notes_of(table),
                scores=score_grid(table),
                differences=difference_grids(table),
                costs=cost_grid(table),
                bars=_pictures(table, charts.draw_bars, styles),
                cost_charts=_pictures(table, charts.draw_costs, styles),
            )
            for table in tables
        ],
        losses=losses and Markup(charts.to_svg(losses, 'losses', 'Losses')),
    )


def _pictures(table: Table, draw: Any, styles: charts.Styles) -> list[Markup]:
    """Draw a chart for each column that has something to show."""
    pictures = []
    for index, column in enumerate(table.columns):
        figure = draw(table, column, styles)
        if figure is not None:
            name = f'{draw.__name__}-{table.name}-{index}'
            title = f'{column.benchmark}: {column.metric}'
            # Text in the figure was escaped when it was drawn.
            pictures.append(Markup(charts.to_svg(figure, name, title)))
    return pictures
