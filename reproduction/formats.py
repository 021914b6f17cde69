"""Tables as Markdown and as CSV, and how their cells read."""

from __future__ import annotations

import csv
import io
import json
import re

from reproduction.results import Cell, Column, Row, Table

NOTHING = '–'
CSV_HEADER = (
    'table,method,pretrain_data,epochs,benchmark,protocol,metric,mean,std,n,'
    'wanted,pretrainings,values,published,published_source,'
    'pretrain_device_hours,finetune_device_hours,device,peak_memory_gib,'
    'images_per_second,config,options,checkpoint_sha256'
)
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


def number(value: float | None) -> str:
    """Six significant digits; nothing for None.

    Example:
        >>> number(38.93333333), number(1234567.8), number(None)
        ('38.9333', '1234570.0', '')
    """
    return '' if value is None else repr(float(f'{value:.6g}'))


def shown(value: float) -> str:
    """One decimal of what the CSV file has, so that both always agree."""
    return f'{float(number(value)):.1f}'


def compact(value: float | None) -> str:
    """Of a cost, the digits that matter.

    Example:
        >>> compact(1234.5), compact(12.345), compact(0.01234)
        ('1234', '12.3', '0.012')
    """
    if value is None:
        return NOTHING
    if value < 1:
        return f'{value:.2g}'
    return f'{value:.1f}' if value < 100 else f'{value:.0f}'


def cell_of(row: Row, column: Column) -> Cell:
    """A cell of a row, an empty one where the row has none."""
    return row.cells.get(column.key, Cell([], 0))


def cell_text(cell: Cell) -> str:
    """Mean, deviation, number of seeds.

    Example:
        >>> cell_text(Cell([38.0, 39.0, 40.0], 3))
        '39.0 ± 1.0 (3)'
        >>> cell_text(Cell([38.0], 3))
        '38.0 (1 of 3)'
    """
    if cell.mean is None:
        return NOTHING
    text, n = shown(cell.mean), len(cell.values)
    if cell.std is not None:
        text += f' ± {shown(cell.std)}'
    of = f' of {cell.wanted}' if n < cell.wanted else ''
    return f'{text} ({n}{of})'


def published_marks(
    cell: Cell, sources: dict[str, int]
) -> list[tuple[str, int]]:
    """Published numbers of a cell, each with the number of its source."""
    return [
        ('n/a' if p.value is None else number(p.value), sources[p.source])
        for p in cell.published
    ]


def has_published(table: Table, column: Column) -> bool:
    """Whether any row has something published for a column."""
    return any(cell_of(row, column).published for row in table.rows)


def sources_of(table: Table) -> dict[str, int]:
    """Where published numbers stand, numbered from 1 in reading order."""
    found: dict[str, int] = {}
    for row in table.rows:
        for column in table.columns:
            for item in cell_of(row, column).published:
                found.setdefault(item.source, len(found) + 1)
    return found


def protocols_of(table: Table) -> list[tuple[str, str]]:
    """Benchmarks with their protocols, each once."""
    return list(
        dict.fromkeys((c.benchmark, c.protocol) for c in table.columns)
    )


def pretrainings(row: Row) -> int:
    """How many pre-trainings a row's cost is of."""
    behind = [cell.pretrainings for cell in row.cells.values()]
    begun = sum(bool(records) for records in row.curves.values())
    return max(len(row.checkpoints), begun, *behind, 0)


def notes_of(table: Table) -> list[str]:
    """What a reader of a table must know, in sentences."""
    notes = [
        'A cell is the mean ± the sample standard deviation over seeds, whose '
        'number stands in brackets.'
    ]
    cells = [(r, cell_of(r, c)) for r in table.rows for c in table.columns]
    shared = [
        f'{row.title} ({row.images})'
        for row, cell in cells
        if 0 < cell.pretrainings < len(cell.values)
    ]
    shared = ', '.join(dict.fromkeys(shared))
    if shared:
        notes.append(
            'Seeds share pre-trainings, so that the deviation may be less '
            f'than that of whole repetitions: {shared}.'
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


def cost_rows(table: Table) -> list[Row]:
    """Rows with something to say about their cost or origin."""
    return [
        row
        for row in table.rows
        if row.pretrain or row.finetune or row.config or row.checkpoints
    ]


def device_of(row: Row) -> str:
    """What a row ran on."""
    cost = row.pretrain or row.finetune
    return cost.device if cost else ''


def cost_cells(row: Row) -> list[str | list[str]]:
    """Below :data:`COST_HEADINGS`; the last two are lists of code."""
    cost, fine = row.pretrain, row.finetune
    options = [f'{key}={value}' for key, value in row.options.items()]
    return [
        str(pretrainings(row) or NOTHING),
        compact(cost and cost.device_hours),
        device_of(row) or NOTHING,
        compact(cost and cost.memory_gib),
        compact(cost and cost.images_per_second),
        compact(fine and fine.device_hours),
        [row.config, *options] if row.config else options,
        [digest[:12] for digest in row.checkpoints],
    ]


def to_csv(tables: list[Table]) -> str:
    """One line for each cell of each table, for other programs to read."""
    text = io.StringIO()
    text.write(f'{CSV_HEADER}\n')
    writer = csv.writer(text, lineterminator='\n')
    for table in tables:
        for row in table.rows:
            for column in table.columns:
                writer.writerow(_csv_line(table, row, column))
    return text.getvalue()


def _csv_line(table: Table, row: Row, column: Column) -> list:
    cell, cost, fine = cell_of(row, column), row.pretrain, row.finetune
    published = [number(p.value) or 'n/a' for p in cell.published]
    # A semicolon within a source would make two of one.
    where = [p.source.replace(';', ',') for p in cell.published]
    epochs = '' if row.epochs is None else row.epochs
    values = ';'.join(number(value) for value in cell.values)
    line = [table.name, row.title, row.images, epochs]
    line += [column.benchmark, column.protocol, column.metric]
    line += [number(cell.mean), number(cell.std), len(cell.values)]
    line += [cell.wanted, cell.pretrainings, values]
    line += [';'.join(published), ';'.join(where)]
    line.append(number(cost and cost.device_hours))
    line.append(number(fine and fine.device_hours))
    line.append(device_of(row))
    line.append(number(cost and cost.memory_gib))
    line.append(number(cost and cost.images_per_second))
    options = json.dumps(row.options, sort_keys=True, default=str)
    return [*line, row.config, options, ';'.join(row.checkpoints)]


def to_markdown(tables: list[Table]) -> str:
    """Tables for a README, with sources, protocols and costs below each."""
    return '\n'.join(line for t in tables for line in _markdown(t))


def _markdown(table: Table) -> list[str]:
    sources = sources_of(table)
    head = ['method', 'pre-trained on', 'epochs']
    for column in table.columns:
        head.append(_plain(f'{column.benchmark}, {column.metric}'))
        head += ['published'] * has_published(table, column)
    body = []
    for row in table.rows:
        line = _markdown_start(row)
        line.append(NOTHING if row.epochs is None else str(row.epochs))
        for column in table.columns:
            cell = cell_of(row, column)
            line.append(cell_text(cell))
            if has_published(table, column):
                marks = published_marks(cell, sources)
                line.append(', '.join(f'{v} [{n}]' for v, n in marks))
        body.append(line)
    costs = [
        [*_markdown_start(row), *map(_markdown_cost, cost_cells(row))]
        for row in cost_rows(table)
    ]
    lines = [f'## {_plain(table.title)}', '', *_grid(head, body), '']
    lines += [f'- {_plain(note)}' for note in notes_of(table)]
    lines += [f'- {_plain(f"{b}: {p}")}' for b, p in protocols_of(table)]
    lines += [f'- [{n}] {_plain(where)}' for where, n in sources.items()]
    if costs:
        head = ['method', 'pre-trained on', *COST_HEADINGS]
        lines += ['', '### Cost', '', *_grid(head, costs)]
    return [*lines, '']


def _grid(head: list[str], body: list[list[str]]) -> list[str]:
    lines = [head, ['---'] * len(head), *body]
    return [f'| {" | ".join(line)} |' for line in lines]


def _markdown_start(row: Row) -> list[str]:
    suffix = '' if row.is_ours else ' (published by others)'
    return [_plain(row.title) + suffix, _plain(row.images)]


def _markdown_cost(cell: str | list[str]) -> str:
    if isinstance(cell, str):
        return _plain(cell)
    # A bar ends a cell even within code.
    codes = [f'`{code}`'.replace('|', r'\|') for code in cell]
    return ' '.join(codes) or NOTHING


def _plain(text: str) -> str:
    """Text of which Markdown makes neither tags nor emphasis nor cells."""
    text = text.replace('&', '&amp;').replace('<', '&lt;')
    return re.sub(r'([|*_`\[\]\\])', r'\\\1', ' '.join(text.split()))
