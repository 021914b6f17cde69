"""Write the results of a plan so far into docs/study/.

    python docs/study/make.py plans/small.yaml

PLAN.md has the tables, and shows the pictures of pictures.py. PLAN.json has
all numbers, PLAN_curves.json and PLAN_curves.png the training curves, and
PLAN_epochs.png the measurements of probe.py. This script runs nothing; parts
without results are marked as not run yet.
"""

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from drawings import CURVES, PROBES, draw_curves, draw_probes

from pixcon_mm.checkpoint.load import sha256_of
from pixcon_mm.errors import run_tool
from pixcon_mm.files import atomic_write
from reproduction.commands import summary
from reproduction.differences import comparisons_of
from reproduction.formats import to_markdown
from reproduction.plan import read_plan
from reproduction.runs import select, settings_of
from reproduction.status import PlanStatus, State
from reproduction.tables import Table, collect_tables

ROOT = Path(__file__).resolve().parents[2]
NOT_YET = 'not run yet\n'
Sections = dict[str, Mapping[str, Any]]


def main(argv: list[str] | None = None) -> None:
    """Collect, draw and write."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('plan')
    parser.add_argument('--out', type=Path, default=ROOT / 'docs/study')
    args = parser.parse_args(argv)
    out, name = args.out.resolve(), Path(args.plan).stem
    plan_file = os.path.relpath(args.plan, ROOT)
    os.chdir(ROOT)
    status = PlanStatus(read_plan(plan_file))
    tables, curves = collect_tables(status), curves_of(status)
    probes = read_probes(status)
    results = {
        'runs': runs_of(status),
        'tables': {table.name: cells_of(table) for table in tables},
        'over epochs': probes,
        'settings': settings(status),
    }
    write_json(out / f'{name}.json', results)
    write_json(out / f'{name}_curves.json', {'curves': curves})
    methods = {
        run.name: status.plan.methods[run.method].title
        for run in select(status.runs.values(), kind='pretrain')
    }
    drawn = set()
    for kind, figure in (
        ('curves', draw_curves(curves, methods)),
        ('epochs', draw_probes(probes, methods)),
    ):
        if figure is not None:
            figure.savefig(out / f'{name}_{kind}.png', dpi=90)
            drawn.add(kind)
    matches = [path.name for path in sorted(out.glob(f'{name}_matches_*.jpg'))]
    page = write_page(status, tables, plan_file, drawn, matches)
    atomic_write(out / f'{name}.md', page.encode())
    print(f'{out / name}.md: {summary(status)}')


def runs_of(status: PlanStatus) -> dict[str, Any]:
    """Describe all runs that have begun: state, metrics, origin, cost."""
    found = {}
    for name, run in status.runs.items():
        own, attempts = status.status(run), status.run_dir(run).attempts()
        if not attempts:
            continue
        metrics = own.metrics or {}
        checkpoint, cost = metrics.get('checkpoint'), metrics.get('cost', {})
        found[name] = dict(
            state=own.state.value,
            seed=run.seed,
            config=run.config,
            options=run.options,
            labels=run.labels,
            metrics=rounded(metrics.get('metrics', {})),
            checkpoint=checkpoint and checkpoint['name'],
            sha256=checkpoint and checkpoint['sha256'],
            started_from_sha256=metrics.get('parent_sha256'),
            wall_seconds=round(sum(a['seconds'] for a in attempts)),
            attempts=len(attempts),
            device=attempts[-1]['device'],
            images_per_second=rounded(cost.get('images_per_second')),
            memory_gib=rounded(cost.get('memory_gib')),
            version=attempts[-1]['version'],
        )
    return found


def rounded(value: Any) -> Any:
    """Round a float, or all floats in a dict, to six significant digits."""
    if isinstance(value, dict):
        return {key: rounded(child) for key, child in value.items()}
    return float(f'{value:.6g}') if isinstance(value, float) else value


def settings(status: PlanStatus) -> dict[str, Any]:
    """Collect the settings of complete runs, once for all seeds of a run."""
    found = {}
    for run in status.runs.values():
        if status.status(run).state is State.COMPLETE:
            name = run.benchmark or f'{run.method}-{run.pretrain_set}'
            found[f'{run.kind}/{name}'] = {
                key: value
                for key, value in settings_of(run).items()
                # Leave out the settings of its parents.
                if key not in ('seed', 'weights')
                and not key.startswith(('pretrain.', 'finetune.'))
            }
    return found


def cells_of(table: Table) -> list[dict[str, Any]]:
    """List the cells of a table, with their differences from references."""
    differences: dict[tuple, dict] = {}
    for reference, rows in comparisons_of(table):
        for row, found in rows:
            for key, difference in found.items():
                if difference.values:
                    differences.setdefault((row.key, key), {})[reference] = (
                        dict(
                            mean=rounded(difference.mean),
                            interval=[*map(rounded, difference.interval or ())]
                            or None,
                            values=[*map(rounded, difference.values)],
                        )
                    )
    return [
        dict(
            method=row.key.method,
            column=column.key,
            mean=rounded(cell.mean),
            deviation=rounded(cell.std),
            seeds=cell.seeds,
            values=[*map(rounded, cell.values)],
            difference_from=differences.get((row.key, column.key), {}),
        )
        for row in table.rows
        for column in table.columns
        for cell in [row.cell(column)]
        if cell.values
    ]


def curves_of(status: PlanStatus) -> dict[str, Any]:
    """Read the last value of each epoch, for all curves and pre-trainings."""
    found = {}
    for run in select(status.runs.values(), kind='pretrain'):
        # The files of a stale run are for other settings.
        if status.status(run).state is State.STALE:
            continue
        records = status.run_dir(run).records()
        last = {r['epoch']: r for r in records if 'epoch' in r}
        if last:
            found[run.name] = {
                'epoch': [*last],
                **{
                    key: [float(f'{r[key]:.4g}') for r in last.values()]
                    for key in CURVES
                    if all(key in r for r in last.values())
                },
            }
    return found


def read_probes(status: PlanStatus) -> dict[str, Any]:
    """Read the results of probe.py, by pre-training and epoch.

    A report is left out if its checkpoint has changed since or does not exist
    yet, because the run was repeated.
    """
    found = {}
    folder = Path(status.plan.work_dir) / 'probe'
    for run in select(status.runs.values(), kind='pretrain'):
        if status.status(run).state is State.STALE:
            continue
        own = folder / run.name.partition('/')[2]
        by_epoch = {
            int(path.stem.partition('_')[2]): path
            for path in own.glob('epoch_*.json')
        }
        start = folder / f'random-seed{run.seed}' / 'epoch_0.json'
        if by_epoch and start.exists():
            by_epoch[0] = start
        for epoch, path in sorted(by_epoch.items()):
            report = json.loads(path.read_text(encoding='utf-8'))
            sha256 = report['backbone'].get('sha256')
            weights = status.run_dir(run).path / f'epoch_{epoch}.pth'
            if epoch == 0:
                pass  # random weights
            elif weights.is_file():
                if sha256_of(weights) != sha256:
                    continue
            elif status.status(run).state is not State.COMPLETE:
                continue  # perhaps of an earlier run
            results = report['results']
            values = dict(results['correspondence'])
            values['dense_knn'] = results['knn']['shares']['1/1']['miou']
            found[f'{run.name}, epoch {epoch}'] = dict(
                run=run.name,
                epoch=epoch,
                sha256=sha256,
                **{key: rounded(values[key]) for key in PROBES},
            )
    return found


def write_json(path: Path, sections: Sections) -> None:
    """Write JSON with a line for each entry, for small differences in git."""
    parts = []
    for name, content in sections.items():
        lines = [
            f'  {json.dumps(key)}: {json.dumps(value, sort_keys=True)}'
            for key, value in content.items()
        ]
        inside = ',\n'.join(lines)
        parts.append(f' {json.dumps(name)}: {{\n{inside}\n }}')
    text = ',\n'.join(parts)
    atomic_write(path, f'{{\n{text}\n}}\n'.encode())


def write_page(
    status: PlanStatus,
    tables: list[Table],
    plan_file: str,
    drawn: set[str],
    matches: list[str],
) -> str:
    """Write the page of results in Markdown."""
    name = Path(plan_file).stem
    has_scores = any(
        cell.values
        for table in tables
        for row in table.rows
        for cell in row.cells.values()
    )
    plan_link = f'[{plan_file}](../../{plan_file})'
    lines = [
        f'# {status.plan.title}',
        '',
        f'Written by `python docs/study/make.py {plan_file}` from the runs of '
        f'{plan_link}; numbers: [{name}.json]({name}.json).',
        '',
        summary(status),
        '',
        to_markdown(tables) if has_scores else f'## Tables\n\n{NOT_YET}',
    ]
    for kind, title, text in (
        (
            'curves',
            'Training curves',
            f'A line for each pre-training; [{name}_curves.json]'
            f'({name}_curves.json).',
        ),
        (
            'epochs',
            'Over the training',
            'Kept checkpoints, measured by [probe.py](probe.py); epoch 0 has '
            'random weights of the same seed.',
        ),
    ):
        lines += [f'## {title}', '']
        if kind in drawn:
            lines += [text, '', f'![{title}]({name}_{kind}.png)', '']
        else:
            lines += [NOT_YET]
    lines += ['## Matches and weights', '']
    if matches:
        lines += [
            'For two photographs, drawn by [pictures.py](pictures.py): each '
            'row has the same two crops, with the matches of the cells in '
            'their overlap (dashed), the cosine of each match, and its '
            'weight. Photographs: Rachel Michetti and Stefan van der Walt, '
            'CC0.',
            '',
        ]
        lines += [f'![Matches and weights]({file})\n' for file in matches]
    else:
        lines += [NOT_YET]
    return '\n'.join(lines).rstrip() + '\n'


if __name__ == '__main__':
    run_tool(main)
