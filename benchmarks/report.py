"""Rows of a benchmark as a table and as JSON."""

import json
import os
import platform
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table


def show(title: str, rows: list[dict], baseline: str, images: int) -> None:
    """Print rows as a table with ratios to one of them.

    Args:
        title (str): What was measured, with its settings.
        rows (list[dict]): As :func:`measure.compare` gives them, with
            ``data_share`` if known; or as :func:`memory.memory_rows` does.
        baseline (str): Name of the row that the others are compared with.
        images (int): Images in a call; 0 if that means nothing.
    """
    if 'peak' in rows[0]:
        headings = ['peak GB', 'before the step GB', 'after the forward GB']
    else:
        headings = ['ms', 'min-max', 'times faster']
        headings += ['images/s'] if images else []
        headings += ['waits for data'] if 'data_share' in rows[0] else []
        headings += ['extra MB', 'of memory'] if rows[0].get('bytes') else []
    base = next(row for row in rows if row['name'] == baseline)
    table = Table('what', title=title)
    for heading in headings:
        table.add_column(heading, justify='right')
    for row in rows:
        cells = cells_of(row, base, images)
        table.add_row(row['name'], *[cells[heading] for heading in headings])
    Console(width=max(Console().width, 100)).print(table)


def cells_of(row: dict, base: dict, images: int) -> dict[str, str]:
    """What a table shows of a row, by heading.

    Example:
        >>> base = dict(seconds=0.2, spread=(0.2, 0.3), bytes=4_000_000)
        >>> row = dict(seconds=0.1, spread=(0.1, 0.1), bytes=1_000_000)
        >>> cells = cells_of(row, base, images=32)
        >>> cells['times faster'], cells['images/s'], cells['of memory']
        ('2.00', '320', '0.250')
    """
    if 'peak' in row:
        return {
            'peak GB': f'{row["peak"] / 1e9:.2f}',
            'before the step GB': f'{row["static"] / 1e9:.2f}',
            'after the forward GB': f'{row["kept"] / 1e9:.2f}',
        }
    low, high = (1e3 * value for value in row['spread'])
    cells = {
        'ms': f'{1e3 * row["seconds"]:.1f}',
        'min-max': f'{low:.1f}-{high:.1f}',
        'times faster': f'{base["seconds"] / row["seconds"]:.2f}',
        'images/s': f'{images / row["seconds"]:.4g}',
        'waits for data': f'{row.get("data_share", 0):.1%}',
        'extra MB': '?',
        'of memory': '?',
    }
    if row.get('bytes') is not None and base.get('bytes'):
        cells['extra MB'] = f'{row["bytes"] / 1e6:.1f}'
        cells['of memory'] = f'{row["bytes"] / base["bytes"]:.3f}'
    return cells


def machine() -> dict:
    """What the figures were measured on."""
    cuda = torch.cuda.is_available()
    return dict(
        torch=torch.__version__,
        python=platform.python_version(),
        cpu=platform.processor() or platform.machine(),
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        gpu=torch.cuda.get_device_name() if cuda else None,
    )


def write(path: Path, settings: dict, rows: list[dict], ratios: dict) -> None:
    """Write what was measured, how and on what, as JSON."""
    record = dict(
        settings=settings, machine=machine(), rows=rows, ratios=ratios
    )
    path.write_text(json.dumps(record, default=str, indent=2) + '\n')
