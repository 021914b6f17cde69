"""The state of a plan, for a person at a terminal."""

from __future__ import annotations

import textwrap
from collections import Counter, defaultdict
from pathlib import Path

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from reproduction import results
from reproduction.collect import cost_of, missing_metrics
from reproduction.execute import fits
from reproduction.formats import cell_of, cell_text
from reproduction.runs import Run, Start, chain, starts
from reproduction.settings import settings_of
from reproduction.state import State, Survey

COLOURS = {
    State.COMPLETE: 'green',
    State.RUNNING: 'cyan',
    State.READY: 'white',
    State.WAITING: 'dim',
}

HELP = {
    State.DAMAGED: '; `run` mends it',
    State.INTERRUPTED: ', with `run`',
    State.FAILED: '; `run` tries again',
    State.STALE: '; `run --redo` does it again',
    State.LOST: '; its results hold; `run --redo` makes it again',
}


def show_data(survey: Survey, console: Console) -> None:
    """A verdict for each data set, with the tree of what is missing."""
    console.print('[bold]Data[/]')
    for name, verdict in survey.data.items():
        mark = '[green]✓[/]' if verdict.is_complete else '[red]✗[/]'
        console.print(f'  {mark} {name}: ', end='')
        console.print(verdict.sentence, markup=False, highlight=False)
        data = survey.plan.data[name]
        if verdict.is_complete:
            continue
        tree = textwrap.indent(verdict.tree, '      ')
        console.print(tree, markup=False, highlight=False)
        if data.make:
            console.print(f'      made by `run`, with python {data.make}')
        elif data.hint:
            console.print(f'      from {data.hint}', markup=False)


def show_starts(survey: Survey, console: Console) -> None:
    """A line for each start, with the states of its seeds."""
    plan = survey.plan
    wanted: dict[Start, set[str]] = {}
    for name, table in plan.tables.items():
        for start in starts(plan, name):
            wanted.setdefault(start, set()).update(table.benchmarks)
    grid = Table(title='Runs', title_justify='left')
    for heading in ('start', 'pre-training', *plan.benchmarks, 'hours'):
        grid.add_column(heading, overflow='fold')
    for start, benchmarks in wanted.items():
        cells = []
        runs: dict[str, Run] = {}
        for benchmark in plan.benchmarks:
            last = []
            for seed in plan.seeds if benchmark in benchmarks else ():
                steps = chain(plan, start, benchmark, seed)
                runs.update({run.name: run for run in steps})
                last.append(unfinished(survey, *steps[-2:]))
            cells.append(states(survey, last))
        first = [run for run in runs.values() if run.kind == 'pretrain']
        grid.add_row(
            start.name,
            states(survey, first),
            *cells,
            hours(survey, [*runs.values()]),
        )
    console.print(grid)


def show_runs(survey: Survey, console: Console) -> None:
    """A line for each run: state, device hours so far, and why."""
    grid = Table('run', 'state', 'hours', 'what', box=None)
    for run in survey.runs.values():
        grid.add_row(
            run.name,
            states(survey, [run]),
            hours(survey, [run]),
            escape(survey.status(run).why),
        )
    console.print(grid)


def hours(survey: Survey, runs: list[Run]) -> str:
    """What runs have taken so far, times devices."""
    cost = cost_of(survey, runs)
    return f'{cost.device_hours:.2f}' if cost else ''


def unfinished(survey: Survey, finetune: Run, test: Run) -> Run:
    """Which of a fine-tuning and its test says more."""
    done = (State.COMPLETE, State.LOST)
    return test if survey.status(finetune).state in done else finetune


def states(survey: Survey, runs: list[Run]) -> str:
    """States in colour, with their numbers if there are several."""
    counts = Counter(survey.status(run).state for run in runs)
    return ', '.join(
        f'[{COLOURS.get(state, "yellow")}]'
        f'{f"{count} " if len(runs) > 1 else ""}{state.value}[/]'
        for state, count in counts.items()
    )


def show_tables(tables: list[results.Table], console: Console) -> None:
    """The cells of each table; the files that `table` writes have more."""
    for table in tables:
        grid = Table(title=table.title, title_justify='left')
        for heading in ('method', 'pre-trained on', 'epochs'):
            grid.add_column(heading)
        for column in table.columns:
            heading = f'{column.benchmark}\n{column.metric}'
            grid.add_column(heading, justify='right')
        for row in filter(lambda row: row.is_ours, table.rows):
            grid.add_row(
                escape(row.title),
                escape(row.images),
                '' if row.epochs is None else str(row.epochs),
                *(cell_text(cell_of(row, column)) for column in table.columns),
            )
        console.print(grid)


def problems(survey: Survey) -> list[str]:
    """What is missing or wrong, a sentence each; the same ones once."""
    found: dict[str, list[str]] = defaultdict(list)
    for run in survey.runs.values():
        status = survey.status(run)
        if status.state is State.NO_DATA:
            names = ', '.join(
                name for name in run.data if not survey.data[name].is_complete
            )
            found[f'data missing: {names}'].append(run.name)
        elif status.state not in COLOURS or (
            status.state is State.RUNNING and status.why
        ):
            help_ = HELP.get(status.state, '')
            text = f'{status.state.value}: {status.why}{help_}'
            found[text].append(run.name)
        if status.state in (State.READY, State.NO_DATA) and lacks_weights(run):
            text = "torchvision's weights are downloaded when the run starts"
            found[text].append(run.name)
        if status.state is State.READY and not fits(run.gpus):
            text = (
                f'wants {run.gpus} GPUs, more than this machine has: use '
                '`run --gpus N` (the total batch stays), or `submit`'
            )
            found[text].append(run.name)
    sentences = missing_metrics(survey)
    for text, names in found.items():
        more = f' and {len(names) - 1} more runs' if len(names) > 1 else ''
        sentences.append(f'{names[0]}{more}: {text}')
    return sentences


def lacks_weights(run: Run) -> bool:
    """Whether a run starts from weights that are not on this machine."""
    depth = settings_of(run).get('model.backbone.depth')
    folder = Path(torch.hub.get_dir()) / 'checkpoints'
    is_given = run.weights == 'torchvision'
    return is_given and not any(folder.glob(f'resnet{depth}-*.pth'))


def summary(survey: Survey) -> str:
    """How many runs are in which state, and what they have taken."""
    states = [survey.status(run).state for run in survey.runs.values()]
    counts = ', '.join(
        f'{states.count(state)} {state.value}'
        for state in State
        if state in states
    )
    cost = cost_of(survey, survey.runs.values())
    so_far = 'nothing yet'
    if cost:
        so_far = f'{cost.device_hours:.2f} hours of {cost.device}'
    return f'{len(states)} runs: {counts}. So far: {so_far}.'
