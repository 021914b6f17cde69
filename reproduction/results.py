"""What came out of a plan: rows, cells, costs."""

from __future__ import annotations

import statistics
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Published:
    """A number of somebody's paper or README.

    Args:
        value (float | None): None where it was not available.
        source (str): Where it stands.
    """

    value: float | None
    source: str


@dataclass(frozen=True)
class Cell:
    """One metric of one row over its seeds.

    Args:
        values (list[float]): One per complete chain of runs, in percent or
            as the metric's scale has it, in the order of seeds.
        wanted (int): How many the plan asks for.
        pretrainings (int): How many different pre-trainings are behind
            the values; 0 for given weights.
        published (list[Published]): Of the same protocol, method, images and
            length.
    """

    values: list[float]
    wanted: int
    pretrainings: int = 0
    published: list[Published] = field(default_factory=list)

    @property
    def mean(self) -> float | None:
        """Over the values; None without any."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def std(self) -> float | None:
        """Of the sample (n - 1); None below two values."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


@dataclass(frozen=True)
class Column:
    """A metric of a benchmark.

    Args:
        key (str): ``BENCHMARK/METRIC`` in the plan's names.
        benchmark (str): Its title.
        protocol (str): In words.
        metric (str): Heading.
    """

    key: str
    benchmark: str
    protocol: str
    metric: str


@dataclass(frozen=True)
class Cost:
    """What runs took, all of their attempts.

    Args:
        device_hours (float): Hours times devices.
        device (str): Of the device, e.g. 'NVIDIA H100' or 'CPU'.
        memory_gib (float | None): Peak of a process: of its GPU, or on a
            CPU its resident set.
        images_per_second (float | None): Median over the log, all processes.
    """

    device_hours: float
    device: str
    memory_gib: float | None = None
    images_per_second: float | None = None


@dataclass(frozen=True)
class Row:
    """A method on a pre-training set, or only its published numbers.

    Args:
        title (str): Method.
        images (str): Pre-training set, or '-'.
        epochs (int | None): Of the pre-training.
        cells (dict[str, Cell]): By key of the column.
        pretrain (Cost | None): Of all its pre-trainings together.
        finetune (Cost | None): Of all its fine-tunings and tests.
        config (str): Of the pre-training; '' without one.
        options (dict): Overrides of the config.
        checkpoints (list[str]): SHA-256 of the pre-trained checkpoints.
        curves (dict[str, list[dict]]): Log records (``step``, ``loss``, ...)
            of the pre-trainings, by run.
        is_ours (bool): False for a row of published numbers alone.
    """

    title: str
    images: str
    epochs: int | None
    cells: dict[str, Cell]
    pretrain: Cost | None = None
    finetune: Cost | None = None
    config: str = ''
    options: dict = field(default_factory=dict)
    checkpoints: list[str] = field(default_factory=list)
    curves: dict[str, list[dict]] = field(default_factory=dict)
    is_ours: bool = True


@dataclass(frozen=True)
class Table:
    """A table of a plan, as far as its runs have got."""

    name: str
    title: str
    columns: list[Column]
    rows: list[Row]
