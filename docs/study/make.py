"""Write the results of a plan so far into docs/study/.

    python docs/study/make.py plans/small.yaml

PLAN.md and PLAN.csv have the tables; the page also shows the pictures of
pictures.py. PLAN.json has the results of all runs, PLAN_curves.json and
PLAN_curves.png the training curves, and PLAN_epochs.png the measurements of
probe.py. This script runs nothing; what has no results yet is left out.

The runs of a plan can be spread over several machines: what PLAN.json has of
complete runs is kept if they have no folder here and their settings are still
those of the plan.
"""

import argparse
import dataclasses
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from drawings import CURVES, PROBES, draw_curves, draw_probes
from probe import report_of

from pixcon_mm.checkpoint.load import sha256_of
from pixcon_mm.errors import run_tool
from pixcon_mm.files import atomic_write
from pixcon_mm.visualization.curves import Records
from pixcon_mm.wording import listed, share
from reproduction.commands import has_scores, summary
from reproduction.formats import to_csv, to_markdown
from reproduction.plan import read_plan
from reproduction.run_dir import digest
from reproduction.runs import Run, select, settings_of
from reproduction.status import PlanStatus, State
from reproduction.tables import Table, collect_tables

ROOT = Path(__file__).resolve().parents[2]
Sections = dict[str, dict[str, Any]]


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
    earlier = read_earlier(status, out, name)
    kept = earlier['runs']
    status.adopt(kept)
    tables = collect_tables(status)
    curves, probes = over_epochs(status, earlier)
    results = {
        'runs': runs_of(status, kept),
        'over epochs': probes,
        'settings': settings(
            run for run in status.runs.values() if status.status(run).metrics
        ),
    }
    write_json(out / f'{name}.json', results)
    atomic_write(out / f'{name}.csv', to_csv(tables).encode())
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
    page = write_page(status, len(kept), tables, plan_file, drawn, out)
    atomic_write(out / f'{name}.md', page.encode())
    print(f'{out / name}.md: {summary(status)}')


def read_earlier(status: PlanStatus, out: Path, name: str) -> Sections:
    """Read what an earlier call wrote; ``runs`` are only those to keep."""
    earlier: Sections = {'runs': {}, 'over epochs': {}, 'curves': {}}
    for file in (out / f'{name}.json', out / f'{name}_curves.json'):
        if file.exists():
            earlier.update(json.loads(file.read_text(encoding='utf-8')))
    absent = {
        name: record
        for name, record in earlier['runs'].items()
        if record['settings_sha256']
        and not Path(status.plan.work_dir, name).exists()
    }
    kept = {
        name: {**absent[name], 'kept': True}
        for name, run in status.runs.items()
        if name in absent
        and absent[name]['settings_sha256'] == digest(settings_of(run))
    }
    changed = absent.keys() - kept.keys()
    if changed:
        print(
            f'Not kept, as plan or configs changed: {listed(sorted(changed))}'
        )
    return {**earlier, 'runs': kept}


def runs_of(status: PlanStatus, kept: dict[str, Any]) -> dict[str, Any]:
    """Describe all runs that have begun: state, metrics, origin, cost."""
    found = {}
    for name, run in status.runs.items():
        own, attempts = status.status(run), status.run_dir(run).attempts()
        if name in kept:
            found[name] = kept[name]
        if not attempts:
            continue
        # Like a metrics file, so that a later call can keep it.
        metrics = own.metrics or {}
        checkpoint = metrics.get('checkpoint')
        found[name] = dict(
            state=own.state.value,
            seed=run.seed,
            config=run.config,
            options=run.options,
            labels=run.labels,
            settings_sha256=own.metrics and digest(settings_of(run)),
            metrics=rounded(metrics.get('metrics', {})),
            checkpoint=checkpoint
            and {key: checkpoint[key] for key in ('name', 'sha256')},
            parent_sha256=metrics.get('parent_sha256'),
            attempts=len(attempts),
            cost=rounded(dataclasses.asdict(status.cost([run]))),
            version=attempts[-1]['version'],
        )
    return found


def rounded(value: Any) -> Any:
    """Round all floats to six significant digits."""
    if isinstance(value, dict):
        return {key: rounded(child) for key, child in value.items()}
    return float(f'{value:.6g}') if isinstance(value, float) else value


def settings(runs: Iterable[Run]) -> dict[str, Any]:
    """Collect the settings of runs, once for all seeds of a run."""
    found = {}
    for run in runs:
        name = run.benchmark or f'{run.method}-{run.pretrain_set}'
        found[f'{run.kind}/{name}'] = {
            key: value
            for key, value in settings_of(run).items()
            # Leave out the settings of its parents.
            if key not in ('seed', 'weights')
            and not key.startswith(('pretrain.', 'finetune.'))
        }
    return found


def over_epochs(
    status: PlanStatus, earlier: Sections
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Collect curves and measurements of all pre-trainings."""
    curves, probes = {}, {}
    for run in select(status.runs.values(), kind='pretrain'):
        if run.name in earlier['runs']:
            curves[run.name] = earlier['curves'].get(run.name)
            for key, point in earlier['over epochs'].items():
                if point['run'] == run.name:
                    probes[key] = point
        # The files of a stale run are for other settings.
        elif status.status(run).state is not State.STALE:
            curves[run.name] = curve_of(status.run_dir(run).records())
            probes.update(read_probes(status, run))
    return {name: curve for name, curve in curves.items() if curve}, probes


def curve_of(records: Records) -> dict[str, Any]:
    """Take the last value of each epoch, for all curves."""
    last = {r['epoch']: r for r in records if 'epoch' in r}
    if not last:
        return {}
    return {
        'epoch': [*last],
        **{
            key: [float(f'{r[key]:.4g}') for r in last.values()]
            for key in CURVES
            if all(key in r for r in last.values())
        },
    }


def read_probes(status: PlanStatus, run: Run) -> dict[str, Any]:
    """Read the results of probe.py for a pre-training, by epoch.

    A report is left out if its checkpoint has changed since.
    """
    found = {}
    folder = status.run_dir(run).path
    kept = folder.glob('probe/epoch_*.json')
    epochs = sorted(int(path.stem.partition('_')[2]) for path in kept)
    for epoch in [0, *epochs] if epochs else []:
        file = report_of(status, run, epoch)
        if not file.exists():
            continue
        report = json.loads(file.read_text(encoding='utf-8'))
        sha256 = report['backbone'].get('sha256')
        weights = folder / f'epoch_{epoch}.pth'
        if weights.is_file() and sha256_of(weights) != sha256:
            continue
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
    kept: int,
    tables: list[Table],
    plan_file: str,
    drawn: set[str],
    out: Path,
) -> str:
    """Write the page of results in Markdown, with links from ``out``."""
    name = Path(plan_file).stem
    has_any = any(has_scores(row) for table in tables for row in table.rows)
    plan_link = f'[{plan_file}]({os.path.relpath(plan_file, out)})'
    study = Path(os.path.relpath('docs/study', out))
    command = f'python docs/study/make.py {plan_file}'
    if study != Path():
        command += f' --out {os.path.relpath(out)}'
    note = share(
        kept, len(status.runs), 'run', 'is kept from an earlier machine'
    )
    note += (
        '; their checkpoints count as missing above. A pre-training that is '
        'repeated on another machine gives other numbers '
        f'([docs/study]({study / "README.md"})).'
    )
    lines = [
        f'# {status.plan.title}',
        '',
        f'Written by `{command}` from the runs of {plan_link}; numbers: '
        f'[{name}.csv]({name}.csv) and '
        f'[{name}.json]({name}.json).',
        '',
        summary(status),
        '',
        *([note, ''] if kept else []),
        to_markdown(tables) if has_any else '## Tables\n\nnot run yet\n',
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
            f'Kept checkpoints, measured by [probe.py]({study / "probe.py"}); '
            'epoch 0 has random weights of the same seed.',
        ),
    ):
        if kind in drawn:
            picture = f'![{title}]({name}_{kind}.png)'
            lines += [f'## {title}', '', text, '', picture, '']
    matches = sorted(out.glob(f'{name}_matches_*.jpg'))
    if matches:
        lines += [
            '## Matches and weights',
            '',
            'For two photographs, drawn by '
            f'[pictures.py]({study / "pictures.py"}): each row has the same '
            'two crops, with the matches of the cells in their overlap '
            '(dashed), the cosine of each match, and its weight. Photographs: '
            'Rachel Michetti and Stefan van der Walt, CC0.',
            '',
        ]
        lines += [f'![Matches and weights]({m.name})\n' for m in matches]
    return '\n'.join(lines).rstrip() + '\n'


if __name__ == '__main__':
    run_tool(main)
