"""Cases of the campaign."""

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
        fault (str): Its name.
        run (str): Name of the run.
        check (Callable): Called with the lab and an empty folder. It returns
            what happened, or raises.
    """

    fault: str
    run: str
    check: Callable[['Lab', Path], str] = field(hash=False)

    def __str__(self) -> str:
        return f'{self.fault}: {self.run}'
