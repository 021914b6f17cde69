"""Published numbers, to show beside runs of the same protocol."""

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
    """Titles that identify a row in all tables and charts."""

    method: str
    pretrain_set: str  # '-' for none
    epochs: int | None


class PublishedNumber(BaseModel):
    """A line of the file of published numbers, in the plan's words."""

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
        """The row that it belongs to."""
        return RowKey(self.method, self.pretrain_set, self.epochs)

    def fits(self, row: RowKey) -> bool:
        """Return whether it belongs to a row.

        Text is compared to the letter: 'MoCo-v2' is not 'MoCo-v2+'. A number
        of unknown length fits any: there is one supervised model of ImageNet.
        """
        return row[:2] == self.row[:2] and self.epochs in (None, row.epochs)


def read_published(path: str | Path) -> list[PublishedNumber]:
    """Read a file of published numbers, in its order.

    Raises:
        UserError: With the file, the line and what is wrong there.
    """
    path, numbers = Path(path), []
    if not path.is_file():
        raise UserError(f'There is no file of published numbers {path}.')
    try:
        # A spreadsheet may put a mark of the encoding in front.
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
    """Find the published numbers of a column, or of its cell in a row."""
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
    """Find rows that have a published number in a table, and no row there."""
    others = {
        number.row: None
        for benchmark in benchmarks
        for metric in benchmark.metrics.values()
        for number in find(numbers, benchmark, metric)
        if number.value is not None and not any(map(number.fits, rows))
    }
    return list(others)
