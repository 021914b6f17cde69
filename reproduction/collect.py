"""From the state of a plan's runs to its tables."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pixcon_mm.errors import UserError
from pixcon_mm.visualization.curves import read_records
from reproduction.attempt import cost_of as cost_of_attempts
from reproduction.folder import DamagedError
from reproduction.published import (
    Number,
    find,
    others,
    read_published,
)
from reproduction.results import Cell, Column, Cost, Row, Table
from reproduction.runs import Run, Start, chain, starts
from reproduction.settings import settings_of
from reproduction.state import State, Survey


def collect(survey: Survey) -> list[Table]:
    """The tables of a plan, as far as its runs have got.

    Only complete runs count: what is stale or damaged is left out.
    """
    plan = survey.plan
    numbers = read_published(plan.published) if plan.published else []
    tables = []
    for name, table in plan.tables.items():
        columns = [
            Column(
                key=f'{bench}/{metric}',
                benchmark=plan.benchmarks[bench].title,
                protocol=plan.benchmarks[bench].protocol,
                metric=spec.title,
            )
            for bench in table.benchmarks
            for metric, spec in plan.benchmarks[bench].metrics.items()
        ]
        rows = [
            _row(survey, start, table.benchmarks, numbers)
            for start in starts(plan, name)
        ]
        rows += _published_rows(survey, rows, table.benchmarks, numbers)
        tables.append(Table(name, table.title, columns, rows))
    return tables


def _row(
    survey: Survey,
    start: Start,
    benchmarks: list[str],
    numbers: list[Number],
) -> Row:
    """A method on a set: its cells, costs and curves."""
    plan = survey.plan
    method = plan.methods[start.method]
    runs: dict[str, Run] = {}
    for benchmark in benchmarks:
        for seed in plan.seeds:
            for run in chain(plan, start, benchmark, seed):
                runs[run.name] = run
    first = [run for run in runs.values() if run.kind == 'pretrain']
    images = plan.pretrain_sets[start.set].title if start.set else None
    row = dict(
        title=method.title,
        images=images or method.pretrain_data,
        epochs=epochs_of(first[0]) if first else method.epochs,
    )
    cells = {}
    for benchmark in benchmarks:
        for metric in plan.benchmarks[benchmark].metrics:
            cells[f'{benchmark}/{metric}'] = _cell(
                survey, start, benchmark, metric, row, numbers
            )
    done = [run for run in first if survey.status(run).metrics]
    return Row(
        **row,
        cells=cells,
        pretrain=cost_of(survey, first),
        finetune=cost_of(
            survey, [run for run in runs.values() if run.kind != 'pretrain']
        ),
        config=method.config or '',
        options=first[0].options if first else {},
        checkpoints=[
            survey.status(run).metrics['checkpoint']['sha256'] for run in done
        ],
        curves={run.name: curve_of(survey, run) for run in first},
    )


def _cell(
    survey: Survey,
    start: Start,
    benchmark: str,
    metric: str,
    row: dict[str, Any],
    numbers: list[Number],
) -> Cell:
    """One metric over the seeds."""
    plan = survey.plan
    bench = plan.benchmarks[benchmark]
    spec = bench.metrics[metric]
    values, pretrainings = [], set()
    for seed in plan.seeds:
        *before, test = chain(plan, start, benchmark, seed)
        status = survey.status(test)
        if status.state is not State.COMPLETE:
            continue
        value = status.metrics['metrics'].get(metric)
        if value is None:
            continue  # `missing_metrics` names it
        values.append(spec.scale * value)
        pretrainings |= {r.name for r in before if r.kind == 'pretrain'}
    published = []
    if bench.published and spec.published:
        published = find(
            numbers,
            bench.published,
            bench.protocol,
            row['title'],
            row['images'],
            row['epochs'],
            spec.published,
        )
    return Cell(values, len(plan.seeds), len(pretrainings), published)


def _published_rows(
    survey: Survey,
    rows: list[Row],
    benchmarks: list[str],
    numbers: list[Number],
) -> list[Row]:
    """Methods that have numbers of these protocols, and no row."""
    specs = [
        (name, survey.plan.benchmarks[name])
        for name in benchmarks
        if survey.plan.benchmarks[name].published
    ]
    known = [(row.title, row.images, row.epochs) for row in rows]
    keys: dict[tuple, None] = {}
    for _, bench in specs:
        keys.update(
            dict.fromkeys(
                others(numbers, bench.published, bench.protocol, known)
            )
        )
    found = []
    for key in keys:
        cells = {
            f'{name}/{metric}': Cell(
                [],
                0,
                0,
                find(
                    numbers,
                    bench.published,
                    bench.protocol,
                    *key,
                    spec.published,
                ),
            )
            for name, bench in specs
            for metric, spec in bench.metrics.items()
            if spec.published
        }
        # Numbers of other metrics than the table's are no row of it.
        if any(cell.published for cell in cells.values()):
            found.append(Row(*key, cells=cells, is_ours=False))
    return found


def missing_metrics(survey: Survey) -> list[str]:
    """Complete tests that gave no number where the plan wants one."""
    sentences = []
    for run in survey.runs.values():
        status = survey.status(run)
        if run.kind != 'test' or status.state is not State.COMPLETE:
            continue
        found = status.metrics['metrics']
        wanted = survey.plan.benchmarks[run.name.split('/')[1]].metrics
        missing = [name for name in wanted if found.get(name) is None]
        if missing:
            sentences.append(
                f'{run.name}: the evaluator gave no {", ".join(missing)}, but '
                f'{", ".join(found) or "nothing at all"}: a detector that '
                'finds nothing has no metrics; otherwise mend the names in '
                'the plan (nothing has to run again)'
            )
    return sentences


def epochs_of(run: Run) -> int | None:
    """Length of a pre-training."""
    return settings_of(run).get('train_cfg.max_epochs')


def curve_of(survey: Survey, run: Run) -> list[dict[str, Any]]:
    """Log records of a pre-training, none if it has not logged yet."""
    if survey.status(run).state is State.STALE:
        return []
    try:
        return read_records(survey.folder(run).path)
    except UserError:
        return []


def cost_of(survey: Survey, runs: Iterable[Run]) -> Cost | None:
    """What runs have taken so far, unfinished ones too; None for nothing.

    The time of a command that outlived the `run` that started it is not
    known.
    """
    hours, devices, memory, speeds = 0.0, [], [], []
    for run in runs:
        known = (survey.status(run).metrics or {}).get('cost')
        try:
            notes = survey.folder(run).read('attempts.json') or []
        except DamagedError:
            notes = []
        cost = known or cost_of_attempts(notes)
        hours += cost['device_hours']
        if cost['device']:
            devices.append(cost['device'])
        if known:
            memory.append(cost['memory_gib'])
            speeds.append(cost['images_per_second'])
    if not devices:
        return None
    known = [speed for speed in speeds if speed]
    return Cost(
        device_hours=hours,
        device=', '.join(dict.fromkeys(devices)),
        memory_gib=max(filter(None, memory), default=None),
        images_per_second=sorted(known)[len(known) // 2] if known else None,
    )
