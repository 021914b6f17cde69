"""Published numbers, shown beside results of the same protocol."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, NamedTuple

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    NonNegativeInt,
    ValidationError,
)

from pixcon_mm.errors import UserError
from reproduction.plan import Benchmark, Metric, mistakes

Text = Annotated[str, Field(min_length=1)]
EmptyIsNone = BeforeValidator(lambda text: text or None)


class RowKey(NamedTuple):
    """Titles and length that identify a row in all tables and charts."""

    method: str
    pretrain_set: str  # '-' for none
    epochs: int | None


class PublishedNumber(BaseModel):
    """A line of the file of published numbers, with the titles of a plan."""

    model_config = ConfigDict(frozen=True, str_strip_whitespace=True)

    benchmark: Text  # ``published`` of a benchmark
    protocol: Text
    method: Text  # title
    pretrain_set: Text  # title
    epochs: Annotated[NonNegativeInt | None, EmptyIsNone]  # None: unknown
    metric: Text  # ``published`` of a metric
    value: Annotated[FiniteFloat | None, EmptyIsNone]  # None: not available
    source: Text

    @property
    def row(self) -> RowKey:
        """Row that the number belongs to."""
        return RowKey(self.method, self.pretrain_set, self.epochs)

    def fits(self, row: RowKey) -> bool:
        """Check if the number belongs to a row.

        Titles must be equal: 'MoCo-v2' is not 'MoCo-v2+'. A number with an
        unknown number of epochs fits any row with its titles.
        """
        return row[:2] == self.row[:2] and self.epochs in (None, row.epochs)


def read_published(path: str | Path) -> list[PublishedNumber]:
    """Read a file of published numbers, in the order of its lines.

    Raises:
        UserError: If the file is wrong; the message names the line.
    """
    path, numbers = Path(path), []
    if not path.is_file():
        raise UserError(f'There is no file of published numbers {path}.')
    try:
        # utf-8-sig: spreadsheets may write a byte order mark.
        with path.open(encoding='utf-8-sig', newline='') as file:
            reader = csv.DictReader(file, strict=True)
            header = list(reader.fieldnames or [])
            for column in PublishedNumber.model_fields:
                if column not in header:
                    raise UserError(f'{path}:1 lacks the column {column!r}.')
            for line in reader:
                where = f'{path}:{reader.line_num}'
                if None in line or None in line.values():
                    raise UserError(
                        f'{where} has too many or too few fields: put text '
                        'with a comma in double quotes.'
                    )
                try:
                    numbers.append(PublishedNumber.model_validate(line))
                except ValidationError as error:
                    raise UserError(f'{where}: {mistakes(error)}') from error
    except UnicodeDecodeError as error:
        raise UserError(f'{path} is not UTF-8 text: {error}') from error
    except csv.Error as error:
        raise UserError(
            f'{path} is not valid CSV after line {reader.line_num}: {error}.'
        ) from error
    return numbers


def find(
    numbers: Iterable[PublishedNumber],
    benchmark: Benchmark,
    metric: Metric,
    row: RowKey | None = None,
) -> list[PublishedNumber]:
    """Find the published numbers of a column, or of one cell of it.

    Args:
        numbers (Iterable[PublishedNumber]): All published numbers.
        benchmark (Benchmark): Benchmark of the column.
        metric (Metric): Metric of the column.
        row (RowKey, optional): Row of the cell; None for the whole column.
    """
    wanted = (benchmark.published, benchmark.protocol, metric.published)
    return [
        number
        for number in numbers
        if (number.benchmark, number.protocol, number.metric) == wanted
        and (row is None or number.fits(row))
    ]


def find_other_rows(
    numbers: Iterable[PublishedNumber],
    benchmarks: Iterable[Benchmark],
    rows: list[RowKey],
) -> list[RowKey]:
    """Find published rows for a table's benchmarks that ``rows`` lacks."""
    others = {
        number.row: None
        for benchmark in benchmarks
        for metric in benchmark.metrics.values()
        for number in find(numbers, benchmark, metric)
        if number.value is not None and not any(map(number.fits, rows))
    }
    return list(others)
