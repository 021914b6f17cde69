"""Report of ``benchmark.py gpu`` in Markdown, and tables for docs/speed.md."""

import argparse
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from pixcon_mm.errors import UserError

PAGE = Path(__file__).resolve().parents[1] / 'docs/speed.md'
PLACE = '<!-- gpu: {} -->\n', '<!-- end of gpu: {} -->'
Parts = dict[str, dict]  # contents of OUT/<letter>.json, by letter
# Goals on one H100 for ResNet-50, 224 px, batch 256, float16, queue 65,536.
GOALS = (
    ('images/s with the loader', 1100, 'least'),
    ('share of the limit', 0.9, 'least'),
    ('InfoNCE, ms', 3, 'most'),
    ('share of augmentation', 0.05, 'most'),
    ("of the release's memory", 0.6, 'most'),
)


def read_parts(folder: Path) -> Parts:
    """Read the JSON files of the parts that have run so far.

    Raises:
        UserError: If one is damaged, or was not written by this command.
    """
    parts = {}
    for part in 'abc':
        path = folder / f'{part}.json'
        if path.is_file():
            try:
                content = json.loads(path.read_text())
            except ValueError as error:
                raise UserError(f'{path} is damaged: {error}') from error
            keys = {'part', 'small', 'machine', 'steps'}
            if not isinstance(content, dict) or not keys <= {*content}:
                raise UserError(
                    f'{path} is not a result of benchmark.py gpu: remove it, '
                    'or choose another folder.'
                )
            parts[part] = content
    return parts


def write_report(folder: Path) -> None:
    """Write report.md from the JSON files beside it."""
    parts = read_parts(folder)
    lines = ['# Tests and measurements on one GPU', '', machines(parts), '']
    for name, table in TABLES.items():
        lines += [f'## {name.capitalize()}', '', table(parts), '']
    lines += ['## Goals', '', goals(parts), '', '## Steps', '']
    lines += [steps(parts), '', *failures(parts)]
    (folder / 'report.md').write_text('\n'.join(lines).rstrip() + '\n')


def docs(args: argparse.Namespace) -> None:
    """Write the figures of a GPU into the marked places of docs/speed.md."""
    parts = read_parts(args.folder)
    if not parts:
        raise UserError(
            f'{args.folder} has none of a.json, b.json and c.json: name the '
            'folder that benchmark.py gpu --out has written.'
        )
    for name, part in parts.items():
        if part['small'] or not part['machine']['gpu']:
            raise UserError(
                f'{args.folder / name}.json was not measured on a GPU in full '
                'size, but the page is only for such figures.'
            )
    page = PAGE.read_text()
    for name, table in TABLES.items():
        start, end = (mark.format(name) for mark in PLACE)
        if page.count(start) != 1 or page.count(end) != 1:
            raise UserError(
                f'{PAGE} must have the lines {start.strip()} and {end} '
                'exactly once.'
            )
        before, rest = page.split(start)
        _, after = rest.split(end)
        text = table(parts)
        if text == NOTHING:
            print(f'{name}: no figures in {args.folder}, not changed')
            continue
        text = f'{machines(parts)}\n\n{text}\n'
        page = f'{before}{start}\n{text}\n{end}{after}'
        print(f'{name}: written')
    PAGE.write_text(page)


NOTHING = 'Nothing measured.'


def table_of(heading: list[str], rows: list[list[object]]) -> str:
    """Return a Markdown table, or a sentence if it has no rows.

    Example:
        >>> print(table_of(['a', 'b'], [[1, 0.12345]]))
        | a | b |
        |---|---|
        | 1 | 0.123 |
    """
    if not rows:
        return NOTHING
    text = [f'| {" | ".join(heading)} |', '|' + '---|' * len(heading)]
    for row in rows:
        text.append(f'| {" | ".join(map(shown, row))} |')
    return '\n'.join(text)


def shown(value: object) -> str:
    """Write a number with three digits, and None as a dash."""
    if isinstance(value, float):
        return f'{value:.0f}' if abs(value) >= 100 else f'{value:.3g}'
    return '-' if value is None else str(value)


def machines(parts: Parts) -> str:
    """Describe the machines and versions that the parts were run on."""
    names = {
        f'{m["gpu"] or "CPU alone"}, {m["cores"]} CPU cores, PyTorch '
        f'{m["torch"]}, Python {m["python"]}'
        for m in (part['machine'] for part in parts.values())
    }
    small = any(part['small'] for part in parts.values())
    note = ' This is a small trial run, not a result.' if small else ''
    return f'{"; ".join(sorted(names))}.{note}'


def measured(parts: Parts, command: str) -> Iterator[tuple[dict, dict, dict]]:
    """Yield settings, rows by name, and ratios of a command's measurements."""
    for step in (step for part in parts.values() for step in part['steps']):
        figures = step.get('figures') or {}
        settings = figures.get('settings', {})
        if settings.get('command') == command:
            rows = {row['name']: row for row in figures['rows']}
            yield settings, rows, figures['ratios']


def gigabytes(row: dict | None) -> float | None:
    """Return the extra memory of a row, in GB."""
    return row['bytes'] / 1e9 if row and row['bytes'] is not None else None


def test_table(parts: Parts) -> str:
    """Return a table with the counts of the tests, by group."""
    rows = [
        [step['name'], *(figures[k] for k in ('passed', 'failed', 'skipped'))]
        for step in parts.get('a', dict(steps=[]))['steps']
        if (figures := step.get('figures'))
    ]
    return table_of(['tests', 'passed', 'failed', 'skipped'], rows)


def step_table(parts: Parts) -> str:
    """Return a table with a row for each batch size and dtype."""
    rows: list[list[object]] = []
    found = sorted(
        measured(parts, 'step'),
        key=lambda figures: [
            figures[0][name] for name in ('compile', 'dtype', 'batch')
        ],
    )
    for settings, times, ratios in found:
        ours, release, dense, limit = (
            next((r for n, r in times.items() if n.startswith(start)), None)
            for start in ('ours', 'the release', 'MMPretrain', 'limit')
        )
        ms = [1e3 * r['seconds'] if r else None for r in (ours, limit)]
        compiled = ', compiled' if settings['compile'] else ''
        rows.append(
            [
                f'{settings["batch"]}, {settings["dtype"]}{compiled}',
                *ms,
                settings['batch'] / ours['seconds'] if ours else None,
                ratios.get('share of the limit'),
                ratios.get('times faster than the release'),
                ratios.get(
                    'times faster than DenseCL, which runs one direction'
                ),
                *map(gigabytes, (ours, release, dense)),
            ]
        )
    heading = ['batch', 'ms', 'limit, ms', 'images/s', 'share of the limit']
    heading += ['times faster than the release', 'than DenseCL']
    heading += ['GB', 'release, GB', 'DenseCL, GB']
    return table_of(heading, rows)


def loss_table(parts: Parts) -> str:
    """Return a table with a row for each backend and dtype."""
    return table_of(
        ['InfoNCE, forward and backward', 'ms', 'extra GB'],
        [
            [f'{name}, {settings["dtype"]}', 1e3 * row['seconds']]
            + [gigabytes(row)]
            for settings, rows, _ in measured(parts, 'loss')
            for name, row in rows.items()
        ],
    )


def kernel_table(parts: Parts) -> str:
    """Return a table of shares, and below it one of the largest kernels."""
    for _, rows, ratios in measured(parts, 'kernels'):
        largest = table_of(
            ['kernel', 'ms', 'calls'],
            [
                [f'`{short(name)}`', 1e3 * row['seconds'], row['calls']]
                for name, row in rows.items()
            ],
        )
        whole = table_of(['of a step', ''], [[*r] for r in ratios.items()])
        return f'{whole}\n\n{largest}'
    return NOTHING


def short(name: str) -> str:
    """Shorten the name of a CUDA kernel.

    Example:
        >>> short('void at::native::(anonymous namespace)::pool<int>(int*)')
        'pool<int>(int*)'
    """
    noise = r'^void |at::native::|\(anonymous namespace\)::|\|'
    return re.sub(noise, '', name)[:100]


def loader_table(parts: Parts) -> str:
    """Return a table of the loader's speed, alone and with the step."""
    rows: list[list[object]] = []
    for settings, times, _ in measured(parts, 'data'):
        (row,) = list(times.values())[:1] if settings['workers'] else (None,)
        if row:
            rate = settings['batch'] / row['seconds']
            rows.append(['loader', settings['workers'], rate, None, None])
    for settings, times, ratios in measured(parts, 'train'):
        name, row = next(iter(times.items()))
        hours = ratios['hours for 800 epochs of COCO']
        rate = settings['batch'] / row['seconds']
        waits = row['data_share']
        name += ', compiled' if settings['compile'] else ''
        rows.append([name, settings['workers'], rate, waits, hours])
    heading = ['what', 'processes', 'images/s', 'share of time waiting']
    return table_of([*heading, 'hours for 800 epochs of COCO'], rows)


def training_table(parts: Parts) -> str:
    """Return a table of the short trainings."""
    rows = []
    for step in parts.get('c', dict(steps=[]))['steps']:
        figures = step.get('figures') or {}
        if 'iterations' in figures:
            metrics = (
                f'{name.split("/")[-1]} {shown(float(value))}'
                for name, value in figures['metrics'].items()
                if '_mAP_' not in name  # at one overlap or size
            )
            rows.append(
                [
                    step['name'],
                    figures['iterations'],
                    f'{shown(figures["loss_start"])} to '
                    f'{shown(figures["loss_end"])}',
                    1e3 * figures['seconds'],
                    1e3 * figures['waiting'],
                    figures['memory_mb'],
                    ', '.join(metrics) or None,
                ]
            )
    heading = ['training', 'iterations', 'loss', 'ms per iteration']
    return table_of(
        [*heading, 'ms waiting for data', 'peak MiB', 'metrics'], rows
    )


def goals(parts: Parts) -> str:
    """Return a table of goals and figures for batch 256 in float16."""
    if any(part['small'] for part in parts.values()):
        return 'The goals are for a GPU, not for a small trial run.'
    found: dict[str, float] = {}
    for settings, rows, _ in measured(parts, 'train'):
        row = next(iter(rows.values()))
        rate = settings['batch'] / row['seconds']
        found[GOALS[0][0]] = max(rate, found.get(GOALS[0][0], 0))
    for settings, rows, ratios in measured(parts, 'step'):
        main = settings['batch'] == 256 and settings['dtype'] == 'float16'
        if main and not settings['compile'] and len(rows) == 4:
            found[GOALS[1][0]] = ratios['share of the limit']
            ours, release, *_ = rows.values()
            found[GOALS[4][0]] = ours['bytes'] / release['bytes']
    for settings, rows, _ in measured(parts, 'loss'):
        if settings['dtype'] == 'float16':
            found[GOALS[2][0]] = 1e3 * rows['fused']['seconds']
    for _, _, ratios in measured(parts, 'kernels'):
        found[GOALS[3][0]] = ratios['share of augmentation']
    rows = []
    for name, target, kind in GOALS:
        value = found.get(name)
        if value is None:
            verdict = 'not measured'
        else:
            met = value >= target if kind == 'least' else value <= target
            verdict = 'met' if met else 'missed'
        rows.append([name, f'at {kind} {target}', value, verdict])
    return table_of(['goal on an H100', 'target', 'measured', ''], rows)


def steps(parts: Parts) -> str:
    """Return a table of all steps with their status."""
    return table_of(
        ['part', 'step', 'status', 'seconds'],
        [
            [name, f'`{step["name"]}`', step['status'], step['seconds']]
            for name, part in parts.items()
            for step in part['steps']
        ],
    )


def failures(parts: Parts) -> Iterator[str]:
    """Yield lines with the output and messages of failed steps."""
    for name, part in parts.items():
        for step in part['steps']:
            if step['status'] in ('ok', 'no time left'):
                continue
            yield from (f'## {name}: {step["name"]}: {step["status"]}', '')
            yield from (f'`{step["command"]}` {step.get("error", "")}', '')
            wrong = (step.get('figures') or {}).get('failures', {})
            for test, lines in wrong.items():
                yield from (f'### {test}', '', '```', *map(plain, lines))
                yield from ('```', '')
            yield from ('```', *map(plain, step['tail']), '```', '')


def plain(line: str) -> str:
    """Remove control sequences and code fences from a line."""
    return re.sub(r'\x1b\[[\d;]*[A-Za-z]|`{3,}', '', line)


TABLES: dict[str, Callable[[Parts], str]] = {
    'tests': test_table,
    'step': step_table,
    'loss': loss_table,
    'kernels': kernel_table,
    'loader': loader_table,
    'training': training_table,
}
