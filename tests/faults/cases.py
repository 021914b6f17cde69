"""Cases of the campaign and the table that they end in."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.faults.lab import Lab

SCALE = float(os.environ.get('FAULTS_SCALE', 1))
HEADER = ('fault', 'run', 'times', 'what happened', 'failures')


def scaled(count: int) -> int:
    """Number of repetitions, at least one."""
    return max(1, round(count * SCALE))


@dataclass(frozen=True)
class Case:
    """A fault, the run that suffers it, and what must follow.

    Args:
        fault (str): As the table shows it.
        run (str): Name of the run.
        check (Callable): Called with the lab and an empty folder. It returns
            how often the fault occurred and what happened, or raises.
        times (int): How often the fault is to occur.
    """

    fault: str
    run: str
    check: Callable[['Lab', Path], tuple[int, str]] = field(hash=False)
    times: int = 1

    def __str__(self) -> str:
        return f'{self.fault}: {self.run}'


@dataclass(frozen=True)
class Row:
    """A line of the table."""

    fault: str
    run: str
    times: int
    happened: str
    failures: int

    def cells(self) -> tuple[str, ...]:
        """Words of the line."""
        happened = ' '.join(self.happened.split()).replace('|', '/')
        return (
            *(self.fault, self.run, str(self.times)),
            *(happened, str(self.failures)),
        )


def merged(rows: list[Row]) -> list[Row]:
    """Join rows of the same fault and run that ended alike."""
    by_key: dict[tuple, Row] = {}
    for row in rows:
        key = (row.fault, row.run, row.failures and row.happened)
        before = by_key.get(key)
        if before is None:
            by_key[key] = row
            continue
        said = before.happened
        if row.happened not in said:
            said = f'{said}; {row.happened}'
        by_key[key] = Row(
            row.fault,
            row.run,
            before.times + row.times,
            said,
            before.failures + row.failures,
        )
    return list(by_key.values())


def markdown(rows: list[Row]) -> str:
    """The table, with a line of sums.

    Example:
        >>> print(markdown([Row('kill -9', 'toy', 3, 'bit-equal', 0)]))
        | fault | run | times | what happened | failures |
        | --- | --- | --- | --- | --- |
        | kill -9 | toy | 3 | bit-equal | 0 |
        | **all** | 1 case | 3 | | 0 |
    """
    count = len(rows)
    times, failures = (
        sum(getattr(row, name) for row in rows)
        for name in ('times', 'failures')
    )
    cases = f'{count} case' + 's' * (count != 1)
    lines = [HEADER, ['---'] * len(HEADER)]
    lines += [row.cells() for row in merged(rows)]
    table = '\n'.join(f'| {" | ".join(line)} |' for line in lines)
    return f'{table}\n| **all** | {cases} | {times} | | {failures} |'
