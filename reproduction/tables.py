"""Tables of a plan, collected from the results of its runs."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, field
from typing import NamedTuple

from pixcon_mm.visualization.curves import Records
from reproduction.plan import Benchmark, Options, Plan
from reproduction.published import (
    PublishedNumber,
    RowKey,
    find,
    find_other_rows,
    read_published,
)
from reproduction.run_dir import Cost
from reproduction.runs import (
    Run,
    select,
    select_scored,
    settings_of,
    table_rows,
)
from reproduction.status import PlanStatus, State

RowName = tuple[str, str | None]  # method and pre-training set, in the plan


def number(value: float | None) -> str:
    """Write a number with six significant digits; nothing for None.

    Example:
        >>> number(38.93333333), number(1234567.8), number(None)
        ('38.9333', '1234570.0', '')
    """
    return '' if value is None else repr(float(f'{value:.6g}'))


def score(value: float) -> str:
    """Write a number with one decimal, rounded from that of the CSV file."""
    return f'{float(number(value)):.1f}'


@dataclass(frozen=True)
class Cell:
    """One metric of one row over its seeds.

    Example:
        >>> print(Cell([38.0, 39.0, 40.0], 3), Cell([38.0], 3), Cell())
        39.0 ± 1.0 (3) 38.0 (1 of 3) –
    """

    # A value for each complete test or evaluation, times the metric's scale,
    # in the order of seeds.
    values: list[float] = field(default_factory=list)
    wanted: int = 0  # number of seeds of the plan
    pretrainings: int = 0  # number of different pre-trainings of the values
    published: list[PublishedNumber] = field(default_factory=list)
    seeds: list[int] = field(default_factory=list)  # seeds of the values

    @property
    def mean(self) -> float | None:
        """Mean of the values; None if there are none."""
        return statistics.fmean(self.values) if self.values else None

    @property
    def std(self) -> float | None:
        """Sample standard deviation (n - 1); None for fewer than 2 values."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None

    def __str__(self) -> str:
        """Write mean, deviation and number of seeds."""
        if self.mean is None:
            return '–'
        std = '' if self.std is None else f' ± {score(self.std)}'
        n = len(self.values)
        of = f' of {self.wanted}' if n < self.wanted else ''
        return f'{score(self.mean)}{std} ({n}{of})'


class Column(NamedTuple):
    """A metric of a benchmark."""

    key: str  # BENCHMARK/METRIC in the plan's names
    benchmark: str  # title
    protocol: str
    metric: str  # title


@dataclass(frozen=True)
class Row:
    """A method on a pre-training set, or only its published numbers."""

    key: RowKey
    cells: dict[str, Cell]  # by key of the column
    pretrain: Cost | None = None  # cost of all pre-trainings together
    finetune: Cost | None = None  # cost of all fine-tunings and tests
    config: str = ''  # config of the pre-training
    options: Options = field(default_factory=dict)  # overrides of the config
    checkpoints: list[str] = field(default_factory=list)  # SHA-256
    # Log records of the pre-trainings, by seed.
    curves: dict[int, Records] = field(default_factory=dict)
    is_ours: bool = True  # False for a row with published numbers only

    @property
    def device(self) -> str:
        """Names of the devices of the row's runs."""
        cost = self.pretrain or self.finetune
        return cost.device if cost else ''

    @property
    def pretrainings(self) -> int:
        """Number of pre-trainings that the cost includes."""
        behind = [cell.pretrainings for cell in self.cells.values()]
        begun = sum(bool(records) for records in self.curves.values())
        return max(len(self.checkpoints), begun, *behind, 0)

    def cell(self, column: Column) -> Cell:
        """Return the cell of a column, or an empty cell."""
        return self.cells.get(column.key, Cell())


@dataclass(frozen=True)
class Table:
    """A table of a plan, with the results so far."""

    name: str
    title: str
    columns: list[Column]
    rows: list[Row]
    # By title of a reference method: rows, each with its reference row.
    references: dict[str, list[tuple[Row, Row]]] = field(default_factory=dict)

    @property
    def sources(self) -> dict[str, int]:
        """Sources of published numbers, numbered from 1, row by row."""
        sources: dict[str, int] = {}
        for row in self.rows:
            for column in self.columns:
                for published in row.cell(column).published:
                    sources.setdefault(published.source, len(sources) + 1)
        return sources

    @property
    def protocols(self) -> dict[str, str]:
        """Protocols by benchmark."""
        return {column.benchmark: column.protocol for column in self.columns}


def collect_tables(status: PlanStatus) -> list[Table]:
    """Collect the tables of a plan, with the results so far.

    Only complete runs count, not stale or damaged ones.
    """
    plan = status.plan
    numbers = read_published(plan.published) if plan.published else []
    tables = []
    for name, table in plan.tables.items():
        benchmarks = {key: plan.benchmarks[key] for key in table.benchmarks}
        columns = [
            Column(f'{key}/{metric}', bench.title, bench.protocol, spec.title)
            for key, bench in benchmarks.items()
            for metric, spec in bench.metrics.items()
        ]
        ours = {
            names: _row(status, *names, benchmarks, numbers)
            for names in table_rows(plan, name)
        }
        rows = [*ours.values()]
        known = [row.key for row in rows]
        for row in find_other_rows(numbers, benchmarks.values(), known):
            cells = {
                f'{key}/{metric}': Cell([], 0, 0, find(numbers, b, spec, row))
                for key, b in benchmarks.items()
                for metric, spec in b.metrics.items()
            }
            rows.append(Row(row, cells, is_ours=False))
        references = _references(plan, table.compare, ours)
        tables.append(Table(name, table.title, columns, rows, references))
    return tables


def _references(
    plan: Plan, compare: list[str], rows: dict[RowName, Row]
) -> dict[str, list[tuple[Row, Row]]]:
    """Pair the rows with the rows of each reference method.

    A row is compared with the reference on the same pre-training set. A
    reference with existing weights has one row, for all sets.
    """
    references = {}
    for index, reference in enumerate(compare):
        found = {key: row for key, row in rows.items() if key[0] == reference}
        is_one = plan.methods[reference].weights is not None
        only = next(iter(found.values()), None) if is_one else None
        pairs = [
            (row, found.get((reference, pretrain_set), only))
            for (method, pretrain_set), row in rows.items()
            # Compare two reference methods only once.
            if method not in compare[: index + 1]
        ]
        references[plan.methods[reference].title] = [
            (row, other) for row, other in pairs if other is not None
        ]
    return references


def _row(
    status: PlanStatus,
    method: str,
    pretrain_set: str | None,
    benchmarks: dict[str, Benchmark],
    numbers: list[PublishedNumber],
) -> Row:
    """Collect cells, costs and curves of a method on a pre-training set."""
    spec = status.plan.methods[method]
    set_title, epochs, options = spec.pretrain_set, spec.epochs, {}
    fields = dict(method=method, pretrain_set=pretrain_set)
    runs = select(status.runs.values(), **fields)
    # Stale runs belong to other settings.
    current = [r for r in runs if status.status(r).state is not State.STALE]
    finetunes = [run for run in current if run.benchmark in benchmarks]
    pretrains = select(runs, kind='pretrain')
    if pretrains:
        set_title = status.plan.pretrain_sets[pretrain_set].title
        epochs = settings_of(pretrains[0]).get('train_cfg.max_epochs')
        options = pretrains[0].options
    key = RowKey(spec.title, set_title, epochs)
    cells = {}
    for name, benchmark in benchmarks.items():
        tests = select_scored(runs, name)
        for metric, column in benchmark.metrics.items():
            done = [t for t in tests if _score(status, t, metric) is not None]
            parents = [test.pretraining for test in done]
            cells[f'{name}/{metric}'] = Cell(
                [column.scale * _score(status, t, metric) for t in done],
                len(tests),
                len({parent.name for parent in parents if parent}),
                find(numbers, benchmark, column, key),
                [t.seed for t in done],
            )
    metrics = [status.status(run).metrics for run in pretrains]
    return Row(
        key,
        cells,
        pretrain=status.cost(select(current, kind='pretrain')),
        finetune=status.cost(finetunes),
        config=spec.config or '',
        options=options,
        checkpoints=[m['checkpoint']['sha256'] for m in metrics if m],
        curves={
            run.seed: status.run_dir(run).records()
            for run in select(current, kind='pretrain')
        },
    )


def _score(status: PlanStatus, test: Run, metric: str) -> float | None:
    """Return a metric of a test; None if incomplete or without it."""
    own = status.status(test)
    if own.state is not State.COMPLETE:
        return None
    return finite(own.metrics['metrics'].get(metric))


def finite(value: float | None) -> float | None:
    """Return a number; None for one that is not finite.

    Example:
        >>> [finite(1.5), finite(math.nan), finite(None)]
        [1.5, None, None]
    """
    # Such metrics are not written, but were by earlier versions.
    return None if value is None or not math.isfinite(value) else value


def missing_metrics(status: PlanStatus) -> list[str]:
    """Report complete tests without a metric that the plan names."""
    sentences = []
    for run in select_scored(status.runs.values()):
        own = status.status(run)
        wanted = status.plan.benchmarks[run.benchmark].metrics
        missing = [
            name for name in wanted if _score(status, run, name) is None
        ]
        if missing and own.state is State.COMPLETE:
            values = own.metrics['metrics'].items()
            known = [
                name for name, value in values if finite(value) is not None
            ]
            found = ', '.join(known) or 'nothing at all'
            sentences.append(
                f'{run.name}: the evaluator gave no {", ".join(missing)}, but '
                f'{found}: correct the names in the plan (no run has to be '
                'repeated). A metric has no value if the test set has no '
                'object of its kind.'
            )
    return sentences
