"""A plan: methods x pre-training sets x benchmarks x seeds, in one file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Data:
    """A tree of files that runs read.

    Args:
        root (str): Folder; ``{name}`` in options of the plan stands for it.
        files (dict[str, int]): How many files match a pattern below it.
        make (str, optional): Tool of this repository that makes the files.
        hint (str, optional): Where they are to be had.
    """

    root: str
    files: dict[str, int]
    make: str | None = None
    hint: str | None = None


@dataclass(frozen=True)
class PretrainSet:
    """Images to pre-train on.

    Args:
        title (str): For tables and for published numbers.
        data (list[str]): Names in the plan's ``data``.
        options (dict): Overrides of the methods' configs.
    """

    title: str
    data: list[str]
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Method:
    """Where a backbone's weights come from.

    Args:
        title (str): For tables and for published numbers.
        config (str, optional): Pre-training config; or
        weights (str, optional): ``none`` (random) or ``torchvision``.
        options (dict): Overrides of the config.
        gpus (int): Processes, a GPU each; 0 for one process on whatever
            there is.
        pretrain_data (str): For tables, with ``weights``.
        epochs (int, optional): For tables, with ``weights``.
    """

    title: str
    config: str | None = None
    weights: str | None = None
    options: dict[str, Any] = field(default_factory=dict)
    gpus: int = 0
    pretrain_data: str = '-'
    epochs: int | None = None


@dataclass(frozen=True)
class Metric:
    """A column of a table.

    Args:
        title (str): Heading.
        scale (float): From what the evaluator gives to percent.
        published (str, optional): Its name in the file of published numbers.
    """

    title: str
    scale: float = 1.0
    published: str | None = None


@dataclass(frozen=True)
class Benchmark:
    """A fine-tuning and its test.

    Args:
        title (str): For tables.
        protocol (str): In words; a published number is shown beside ours
            only if its protocol is the same to the letter.
        config (str): Fine-tuning config.
        metrics (dict[str, Metric]): By their name in the evaluator.
        data (list[str]): Names in the plan's ``data``.
        options (dict): Overrides of the config.
        gpus (int): As :class:`Method` has it.
        published (str, optional): Its name in the file of published numbers.
    """

    title: str
    protocol: str
    config: str
    metrics: dict[str, Metric]
    data: list[str]
    options: dict[str, Any] = field(default_factory=dict)
    gpus: int = 0
    published: str | None = None


@dataclass(frozen=True)
class Rows:
    """Rows of a table: each method on each set."""

    methods: list[str]
    sets: list[str]


@dataclass(frozen=True)
class TablePlan:
    """A table: which rows, which benchmarks."""

    title: str
    rows: list[Rows]
    benchmarks: list[str]


@dataclass(frozen=True)
class Plan:
    """All of it.

    Args:
        title (str): For the page.
        work_dir (str): Where runs and tables go.
        seeds (list[int]): A fine-tuning each. It starts from the
            pre-training of the same seed, or else of the first one.
        pretrain_seeds (list[int]): A pre-training each.
        published (str, optional): CSV file of published numbers.
        slurm (dict): Options of sbatch for every job, such as ``time``.
    """

    title: str
    work_dir: str
    seeds: list[int]
    pretrain_seeds: list[int]
    data: dict[str, Data]
    pretrain_sets: dict[str, PretrainSet]
    methods: dict[str, Method]
    benchmarks: dict[str, Benchmark]
    tables: dict[str, TablePlan]
    published: str | None = None
    slurm: dict[str, Any] = field(default_factory=dict)
