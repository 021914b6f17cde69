"""Commands of tools/reproduce.py, and their output in the terminal."""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import sys
import textwrap
from collections import Counter, defaultdict
from functools import partial
from pathlib import Path

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table as RichTable

from pixcon_mm.files import atomic_write
from reproduction import slurm
from reproduction.execute import Selection, execute, fits
from reproduction.formats import score_grid, to_csv, to_html, to_markdown
from reproduction.plan import read_plan
from reproduction.runs import (
    Run,
    backbone_difference,
    backbone_name,
    select,
    select_scored,
    settings_of,
    table_rows,
)
from reproduction.status import PlanStatus, State
from reproduction.tables import Row, Table, collect_tables, missing_metrics

# Colours of the states without a problem; other states are yellow.
COLOURS = {
    State.COMPLETE: 'green',
    State.RUNNING: 'cyan',
    State.READY: 'white',
    State.WAITING: 'dim',
}
ADVICE = {
    State.DAMAGED: '; `run` repairs it',
    State.INTERRUPTED: ', with `run`',
    State.FAILED: '; `run` tries again',
    State.STALE: '; `run --redo` repeats it',
    State.LOST: '; its results still count; `run --redo` repeats it',
}


def call(args: argparse.Namespace) -> None:
    """Call the command that ``args`` names."""
    status = PlanStatus(read_plan(args.plan))
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)
    selection = Selection(tuple(args.only), args.gpus, args.redo)
    if args.command == 'submit':
        slurm.submit(status, selection, args.plan, args.dry_run)
        return
    if args.command == 'table':
        write_tables(status, args)
        return
    is_complete = True
    if args.command == 'run':
        is_complete = run(status, selection, console)
    show_summary(status, console)
    if args.command == 'status':
        show_status(status, args, console)
    elif not args.only:
        # With --only, jobs of the same plan would all write the tables.
        write_tables(status, args)
    if not is_complete:
        sys.exit(1)


def show_summary(status: PlanStatus, console: Console) -> None:
    """Show the state of data and runs, and problems, in a few lines."""
    show = partial(console.print, markup=False, highlight=False)
    show(f'{status.plan.title}: {summary(status)}')
    for name, check in status.data.items():
        mark = '[green]✓[/]' if check.is_complete else '[red]✗[/]'
        console.print(f'  {mark} data ', end='')
        show(f'{name}: {check.sentence}')
    for sentence in problems(status):
        show(f'  ! {sentence}')


def show_status(
    status: PlanStatus, args: argparse.Namespace, console: Console
) -> None:
    """Show the results so far; details and a line for each run on request."""
    if args.details:
        show_missing_data(status, console)
        show_backbones(status, console)
    tables = collect_tables(status)
    begun = [t for t in tables if any(map(has_scores, t.rows))]
    show_tables(tables if args.details else begun, console)
    if args.runs:
        show_runs(status, console)
    more = [
        f'--{name}' for name in ('details', 'runs') if not vars(args)[name]
    ]
    if more:
        line = f'python tools/reproduce.py status {args.plan} {" ".join(more)}'
        console.print(f'More: {line}', markup=False, highlight=False)


def run(status: PlanStatus, selection: Selection, console: Console) -> bool:
    """Execute the selected runs; return True if all are complete."""

    def log(text: str) -> None:
        now = datetime.datetime.now().strftime('%H:%M:%S')
        line = f'{now} {text}'
        console.print(line, markup=False, highlight=False, soft_wrap=True)

    is_complete = execute(status, selection, log)
    status.forget()
    return is_complete


def write_tables(status: PlanStatus, args: argparse.Namespace) -> None:
    """Write the tables in all formats."""
    tables = collect_tables(status)
    folder = Path(status.plan.work_dir)
    now = datetime.datetime.now().strftime('%Y-%m-%d %H:%M')
    page = to_html(
        status.plan.title,
        tables,
        problems(status),
        created=f'{now}: {summary(status).rstrip(".")}',
        command=f'python tools/reproduce.py run {args.plan}',
    )
    texts = {
        'table.md': to_markdown(tables),
        'table.csv': to_csv(tables),
        'table.html': page,
    }
    for name, text in texts.items():
        atomic_write(folder / name, text.encode())
    print(f'{folder}/: {", ".join(texts)}')


def show_missing_data(status: PlanStatus, console: Console) -> None:
    """Show the files that each incomplete data set should have."""
    for name, check in status.data.items():
        if check.is_complete:
            continue
        console.print(f'[bold]Data[/] {name}')
        tree = textwrap.indent(check.tree, '    ')
        console.print(tree, markup=False, highlight=False)
        if check.data.make:
            console.print(f'    made by `run`, with python {check.data.make}')
        elif check.data.hint:
            console.print(f'    from {check.data.hint}', markup=False)


def show_backbones(status: PlanStatus, console: Console) -> None:
    """Show a line for each backbone, with the states of its seeds."""
    plan = status.plan
    shown = RichTable(title='Runs', title_justify='left')
    for heading in ('backbone', 'pre-training', *plan.benchmarks, 'hours'):
        shown.add_column(heading, overflow='fold')
    rows = [row for name in plan.tables for row in table_rows(plan, name)]
    for row in dict.fromkeys(rows):
        fields = dict(zip(('method', 'pretrain_set'), row, strict=True))
        runs = select(status.runs.values(), **fields)
        cells = [states(status, select(runs, kind='pretrain'))]
        for benchmark in plan.benchmarks:
            tests = select_scored(runs, benchmark)
            # Show the state of a test once its fine-tuning is done, and until
            # then the state of the fine-tuning.
            decisive = [
                test
                if test.kind == 'evaluate'
                or status.status(test.parent).metrics
                else test.parent
                for test in tests
            ]
            cells.append(states(status, decisive))
        shown.add_row(backbone_name(*row), *cells, hours(status, runs))
    console.print(shown)


def show_runs(status: PlanStatus, console: Console) -> None:
    """Show a line for each run: state, device hours so far, and reason."""
    shown = RichTable('run', 'state', 'hours', 'what', box=None)
    for name, run in status.runs.items():
        why = escape(status.status(run).why)
        shown.add_row(name, states(status, [run]), hours(status, [run]), why)
    console.print(shown)


def has_scores(row: Row) -> bool:
    """Check if a row is ours and has a result."""
    return row.is_ours and any(cell.values for cell in row.cells.values())


def show_tables(tables: list[Table], console: Console) -> None:
    """Show our rows of each table; `table` also writes published ones."""
    for table in tables:
        rows = [row for row in table.rows if row.is_ours]
        ours = dataclasses.replace(table, rows=rows)
        head, *body = score_grid(ours, with_published=False)
        title = escape(table.title)
        shown = RichTable(
            *map(escape, head), title=title, title_justify='left'
        )
        for line in body:
            shown.add_row(*map(escape, line))
        console.print(shown)


def hours(status: PlanStatus, runs: list[Run]) -> str:
    """Write the device hours of runs so far."""
    cost = status.cost(runs)
    return f'{cost.device_hours:.2f}' if cost else ''


def states(status: PlanStatus, runs: list[Run]) -> str:
    """Write states in colour, with their counts if there are several runs."""
    counts = Counter(status.status(run).state for run in runs)
    return ', '.join(
        f'[{COLOURS.get(state, "yellow")}]'
        f'{f"{count} " if len(runs) > 1 else ""}{state.value}[/]'
        for state, count in counts.items()
    )


def problems(status: PlanStatus) -> list[str]:
    """List problems in sentences, each with the runs that have it."""
    names: dict[str, list[str]] = defaultdict(list)
    for name, run in status.runs.items():
        own = status.status(run)
        can_start = own.state in (State.READY, State.NO_DATA)
        if own.state is State.NO_DATA:
            data = [d for d in run.data if not status.data[d].is_complete]
            names[f'data missing: {", ".join(data)}'].append(name)
        elif own.state not in COLOURS or (
            own.state is State.RUNNING and own.why
        ):
            advice = ADVICE.get(own.state, '')
            names[f'{own.state.value}: {own.why}{advice}'].append(name)
        if can_start and lacks_weights(run):
            text = "torchvision's weights are downloaded when the run starts"
            names[text].append(name)
        changed = backbone_difference(run)
        if changed:
            text = (
                "its backbone is not the pre-training's, so the same weights "
                f'may give other features: {changed}'
            )
            names[text].append(name)
        if own.state is State.READY and not fits(run.gpus):
            text = (
                f'needs {run.gpus} GPUs, more than this machine has: use '
                '`run --gpus N` (same total batch), or `submit`'
            )
            names[text].append(name)
    sentences = missing_metrics(status)
    for text, (first, *others) in names.items():
        more = f' and {len(others)} more runs' if others else ''
        sentences.append(f'{first}{more}: {text}')
    return sentences


def lacks_weights(run: Run) -> bool:
    """Check if a run needs torchvision's weights and they are not here yet."""
    depth = settings_of(run).get('model.backbone.depth')
    folder = Path(torch.hub.get_dir()) / 'checkpoints'
    files = folder.glob(f'resnet{depth}-*.pth')
    return run.weights == 'torchvision' and not any(files)


def summary(status: PlanStatus) -> str:
    """Count the runs in each state, and sum up their cost."""
    counts = Counter(status.status(r).state for r in status.runs.values())
    parts = [f'{counts[s]} {s.value}' for s in State if s in counts]
    cost = status.cost(status.runs.values())
    so_far = 'nothing yet'
    if cost:
        so_far = f'{cost.device_hours:.2f} hours of {cost.device}'
    return f'{len(status.runs)} runs: {", ".join(parts)}. So far: {so_far}.'
