"""Cases of the campaign and the table that they end in."""

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.faults.lab import Lab

SCALE = float(os.environ.get('FAULTS_SCALE', 1))


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
            what happened, or raises.
        times (int): How often the fault occurs.
    """

    fault: str
    run: str
    check: Callable[['Lab', Path], str] = field(hash=False)
    times: int = 1

    def __str__(self) -> str:
        return f'{self.fault}: {self.run}'


class Table:
    """What happened in the cases that are over, a line a fault and run."""

    def __init__(self):
        self.rows: dict[tuple, list[int]] = {}
        self.happened: dict[tuple, list[str]] = {}

    def add(self, case: Case, happened: str, times: int, failures: int = 0):
        """Add a case; it shares a line with those that ended alike."""
        # Each failure has a line of its own.
        key = (case.fault, case.run, failures and happened)
        row = self.rows.setdefault(key, [0, 0])
        row[0], row[1] = row[0] + times, row[1] + failures
        texts = self.happened.setdefault(key, [])
        if happened not in texts:
            texts.append(happened)

    def __str__(self) -> str:
        lines = [('fault', 'run', 'times', 'what happened', 'failures')]
        lines.append(('---',) * 5)
        for key, (times, failures) in self.rows.items():
            text = ' '.join('; '.join(self.happened[key]).split())
            text = text.replace('|', '/')
            lines.append((key[0], key[1], times, text, failures))
        sums = [sum(column) for column in zip(*self.rows.values(), strict=1)]
        lines.append(('**all**', '', sums[0], '', sums[1]))
        return '\n'.join(f'| {" | ".join(map(str, x))} |' for x in lines)
