"""Results of a benchmark as a table and as JSON."""

import argparse
import json
import os
import platform
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table


@dataclass
class Report:
    """Results of one comparison.

    Attributes:
        title (str): Title with the settings of the measurement.
        rows (list[dict]): Rows with a ``name``. Without ``columns``, they are
            as :func:`measure.compare` returns them, some with
            ``data_share``, the share of time spent waiting for data.
        baseline (str): Name of the row that other rows are compared with.
        images (int): Number of images per call; 0 if it has no meaning.
        ratios (dict[str, float]): Numbers to print below the table.
        columns (dict[str, Callable], optional): Functions that return the
            cell of a row, by heading. Without them, the table shows times.
    """

    title: str
    rows: list[dict]
    baseline: str = ''
    images: int = 0
    ratios: dict[str, float] = field(default_factory=dict)
    columns: dict[str, Callable[[dict], str]] | None = None

    def show(self) -> None:
        """Print the table and the ratios."""
        table = Table('what', title=self.title)
        for heading in self.cells(self.rows[0]):
            table.add_column(heading, justify='right')
        for row in self.rows:
            table.add_row(row['name'], *self.cells(row).values())
        Console(width=max(Console().width, 100)).print(table)
        for name, value in self.ratios.items():
            print(f'{name}: {value:.3g}')

    def cells(self, row: dict) -> dict[str, str]:
        """Return the cells of a row, by heading."""
        if self.columns is None:
            base = next(r for r in self.rows if r['name'] == self.baseline)
            return cells_of(row, base, self.images)
        return {name: cell(row) for name, cell in self.columns.items()}

    def write(self, path: Path, args: argparse.Namespace) -> None:
        """Write the results, the settings and the machine as JSON."""
        settings = {k: v for k, v in vars(args).items() if k != 'call'}
        record = dict(
            settings=settings,
            machine=machine(),
            rows=self.rows,
            ratios=self.ratios,
        )
        path.write_text(json.dumps(record, default=str, indent=2) + '\n')


def cells_of(row: dict, base: dict, images: int) -> dict[str, str]:
    """Return the cells of a row in a table, by heading.

    Example:
        >>> base = dict(seconds=0.2, spread=(0.2, 0.3), bytes=4_000_000)
        >>> row = dict(seconds=0.1, spread=(0.1, 0.1), bytes=1_000_000)
        >>> cells = cells_of(row, base, images=32)
        >>> cells['times faster'], cells['images/s'], cells['of memory']
        ('2.00', '320', '0.250')
    """
    low, high = (1e3 * value for value in row['spread'])
    cells = {
        'ms': f'{1e3 * row["seconds"]:.1f}',
        'min-max': f'{low:.1f}-{high:.1f}',
        'times faster': f'{base["seconds"] / row["seconds"]:.2f}',
    }
    if images:
        cells['images/s'] = f'{images / row["seconds"]:.4g}'
    if 'data_share' in row:
        cells['waits for data'] = f'{row["data_share"]:.1%}'
    if base.get('bytes'):
        cells['extra MB'] = f'{row["bytes"] / 1e6:.1f}'
        cells['of memory'] = f'{row["bytes"] / base["bytes"]:.3f}'
    return cells


def machine() -> dict:
    """Describe the machine and the versions of a measurement."""
    cuda = torch.cuda.is_available()
    return dict(
        torch=torch.__version__,
        python=platform.python_version(),
        cpu=platform.processor() or platform.machine(),
        cores=os.cpu_count(),
        threads=torch.get_num_threads(),
        gpu=torch.cuda.get_device_name() if cuda else None,
    )
