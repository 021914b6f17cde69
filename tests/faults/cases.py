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
    """Scale a number of repetitions; at least one is left."""
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

    def merge(self, other: 'Row') -> 'Row':
        """Join two rows of the same fault and run."""
        happened = self.happened
        if other.happened not in happened:
            happened = f'{happened}; {other.happened}'
        return Row(
            *(self.fault, self.run, self.times + other.times, happened),
            self.failures + other.failures,
        )


def markdown(rows: list[Row]) -> str:
    """Write the table, with a line of sums.

    Example:
        >>> print(markdown([Row('kill -9', 'toy', 3, 'bit-equal', 0)]))
        | fault | run | times | what happened | failures |
        | --- | --- | --- | --- | --- |
        | kill -9 | toy | 3 | bit-equal | 0 |
        | **all** | 1 case | 3 | | 0 |
    """
    merged: dict[tuple, Row] = {}
    for row in rows:
        # Each failure has a row of its own.
        key = (row.fault, row.run, row.failures and row.happened)
        merged[key] = merged[key].merge(row) if key in merged else row
    lines = [HEADER, ['---'] * len(HEADER)]
    for row in merged.values():
        happened = ' '.join(row.happened.split()).replace('|', '/')
        lines.append(
            (row.fault, row.run, str(row.times), happened, str(row.failures))
        )
    times, failures = sum(r.times for r in rows), sum(r.failures for r in rows)
    cases = f'{len(rows)} case' + 's' * (len(rows) != 1)
    table = '\n'.join(f'| {" | ".join(line)} |' for line in lines)
    return f'{table}\n| **all** | {cases} | {times} | | {failures} |'
