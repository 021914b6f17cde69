"""Paired differences of a table's rows, with confidence intervals."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass

from scipy.special import stdtrit

from reproduction.tables import Cell, number

LEVEL = 0.95


@dataclass(frozen=True)
class Difference:
    """Differences of two cells, one for each seed that both have.

    The interval is that of Student's t for paired values. It assumes that the
    values come from a normal distribution, and is not corrected for the number
    of comparisons in a table.

    Example:
        >>> print(Difference([1.0, 2.0, 3.0]), Difference([1.0]))
        +2.0 [-0.5, +4.5] (3) +1.0 (1)
    """

    values: list[float]

    @property
    def mean(self) -> float | None:
        """Mean of the values; None if there are none."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """Ends of the 95 % confidence interval; None without two values."""
        n = len(self.values)
        if n < 2:
            return None
        quantile = float(stdtrit(n - 1, (1 + LEVEL) / 2))
        half = quantile * statistics.stdev(self.values) / math.sqrt(n)
        return self.mean - half, self.mean + half

    def __str__(self) -> str:
        """Write mean, interval and number of seeds."""
        if self.mean is None:
            return '–'
        ends = ''
        if self.interval:
            ends = f' [{", ".join(map(signed, self.interval))}]'
        return f'{signed(self.mean)}{ends} ({len(self.values)})'


def signed(value: float) -> str:
    """Round to one decimal, as scores are rounded, and write the sign.

    What is rounded to 0 keeps its sign, so that an interval shows on which
    side of 0 it ends.

    Example:
        >>> signed(1.26), signed(-0.01), signed(-2.0)
        ('+1.3', '-0.0', '-2.0')
    """
    return f'{float(number(value)):+.1f}'


def paired_difference(cell: Cell, reference: Cell) -> Difference:
    """Subtract a reference seed by seed, for the seeds that both have."""
    base = dict(zip(reference.seeds, reference.values, strict=True))
    values = zip(cell.seeds, cell.values, strict=True)
    return Difference([x - base[seed] for seed, x in values if seed in base])
