"""Numbers of papers and READMEs, to show beside runs of the same protocol."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pixcon_mm.errors import UserError, suggest
from reproduction.results import Published

COLUMNS = (
    *('benchmark', 'protocol', 'method', 'pretrain_data'),
    *('pretrain_epochs', 'metric', 'value', 'source'),
)
Key = tuple[str, str, int | None]


@dataclass(frozen=True)
class Number:
    """A line of the file.

    Args:
        benchmark (str): Name, as a plan's ``published`` has it.
        protocol (str): In words.
        method (str): Title.
        images (str): Pre-training set's title, or '-'.
        epochs (int | None): None where the file says nothing.
        metric (str): Name, as a plan's metric has it.
        value (float | None): None where it was not available.
        source (str): Where it stands.
    """

    benchmark: str
    protocol: str
    method: str
    images: str
    epochs: int | None
    metric: str
    value: float | None
    source: str


def read_published(path: str | Path) -> list[Number]:
    """Read a file of published numbers, in its order.

    Args:
        path (str | Path): CSV file with a header of ``COLUMNS``. An empty
            value stands for a number that was not available.

    Raises:
        UserError: With the file, the line and what is wrong there.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f'There is no file of published numbers {path}.')
    try:
        # A spreadsheet may put a mark of the encoding in front.
        with path.open(encoding='utf-8-sig', newline='') as file:
            reader = csv.DictReader(file, strict=True)
            _check_header(reader.fieldnames or [], path)
            return [
                _number(row, f'{path}:{reader.line_num}') for row in reader
            ]
    except UnicodeDecodeError as error:
        raise UserError(f'{path} is no text in UTF-8: {error}') from error
    except csv.Error as error:
        raise UserError(
            f'{path} is no CSV file after line {reader.line_num}: {error}.'
        ) from error


def find(
    numbers: Iterable[Number],
    benchmark: str,
    protocol: str,
    method: str,
    images: str,
    epochs: int | None,
    metric: str,
) -> list[Published]:
    """The published numbers of a cell, one per source, in the file's order.

    Text is compared to the letter: 'MoCo-v2' is not 'MoCo-v2+'. A line
    without epochs fits any: it says nothing that could be different, as for
    the one supervised model of ImageNet.

    Args:
        numbers (Iterable[Number]): Of :func:`read_published`.
        benchmark (str): A benchmark's ``published``.
        protocol (str): A benchmark's ``protocol``.
        method (str): Title.
        images (str): Pre-training set's title, or '-'.
        epochs (int | None): Of the pre-training. None fits only lines
            without epochs.
        metric (str): A metric's ``published``.

    Returns:
        list[Published]: With value None where the file has no value.
    """
    return [
        Published(n.value, n.source)
        for n in numbers
        if (n.benchmark, n.protocol, n.metric) == (benchmark, protocol, metric)
        and _fits(n, (method, images, epochs))
    ]


def others(
    numbers: Iterable[Number],
    benchmark: str,
    protocol: str,
    known: Iterable[Key],
) -> list[Key]:
    """What has a published number of a protocol, and no row of its own.

    Args:
        numbers (Iterable[Number]): Of :func:`read_published`.
        benchmark (str): A benchmark's ``published``.
        protocol (str): A benchmark's ``protocol``.
        known (Iterable[tuple[str, str, int | None]]): Method, images and
            epochs of the rows that there are.

    Returns:
        list[tuple[str, str, int | None]]: Method, images and epochs, each
        once, in the file's order, for :func:`find`.
    """
    known = list(known)
    found = {
        (n.method, n.images, n.epochs): None
        for n in numbers
        if (n.benchmark, n.protocol) == (benchmark, protocol)
        and n.value is not None
        and not any(_fits(n, key) for key in known)
    }
    return list(found)


def _fits(number: Number, key: Key) -> bool:
    method, images, epochs = key
    return (number.method, number.images) == (method, images) and (
        number.epochs is None or number.epochs == epochs
    )


def _check_header(header: list[str], path: Path) -> None:
    for column in COLUMNS:
        if column not in header:
            raise UserError(
                f'{path}:1 lacks the column {column!r}.'
                f'{suggest(column, list(header))} Columns are '
                f'{",".join(COLUMNS)}.'
            )


def _number(row: dict, where: str) -> Number:
    """A line, checked."""
    if None in row or None in row.values():
        raise UserError(
            f'{where} has too {"many" if None in row else "few"} fields: '
            'put text with a comma in double quotes, and leave a comma for '
            'each empty field.'
        )
    row = {key: text.strip() for key, text in row.items()}
    # Only value and epochs may be unknown; a number needs its source.
    for name in COLUMNS:
        if not row[name] and name not in ('value', 'pretrain_epochs'):
            raise UserError(f'{where} has no {name}.')
    epochs, value = row['pretrain_epochs'], row['value']
    if epochs and not (epochs.isascii() and epochs.isdigit()):
        raise UserError(
            f'{where} has pretrain_epochs {epochs!r}: a whole number or '
            'nothing, please.'
        )
    return Number(
        benchmark=row['benchmark'],
        protocol=row['protocol'],
        method=row['method'],
        images=row['pretrain_data'],
        epochs=int(epochs) if epochs else None,
        metric=row['metric'],
        value=_value(value, where) if value else None,
        source=row['source'],
    )


def _value(text: str, where: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise UserError(f'{where} has a value {text!r} that is no number.')
    return value
