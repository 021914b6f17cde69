"""Draw the curves of runs together, or over reference curves of a recipe."""

import argparse
from pathlib import Path

from matplotlib.backend_bases import FigureCanvasBase

from pixcon_mm.errors import run_tool
from pixcon_mm.files import check_out
from pixcon_mm.visualization.curves import (
    Records,
    plot_curves,
    read_records,
    summarize,
)
from pixcon_mm.visualization.reference import (
    Reference,
    curve_at,
    find_excursions,
    load_reference,
    make_reference,
    plot_against,
    save_reference,
)


def main(argv: list[str] | None = None) -> None:
    """Draw the curves, and print the losses at start, peak and end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        'work_dirs', nargs='+', type=Path, metavar='RUN', help='work directory'
    )
    parser.add_argument('--out', type=Path, help='picture; default: curve.png')
    group = parser.add_mutually_exclusive_group()
    group.add_argument(
        '--against',
        type=Path,
        metavar='FILE',
        help='draw one run over the band of reference curves, such as those '
        'in docs/curves/, and print where it leaves the band',
    )
    group.add_argument(
        '--save',
        type=Path,
        metavar='FILE',
        help='write the curves of three or more runs of a recipe as reference '
        'curves, RECIPE.json',
    )
    args = parser.parse_args(argv)
    out = args.out or Path('curve.png')
    formats = FigureCanvasBase.get_supported_filetypes()
    if out.suffix.lower().removeprefix('.') not in formats:
        parser.error(
            f'--out {out}: the suffix must be one of .{", .".join(formats)}'
        )
    check_out(out)
    runs = {name: read_records(path) for name, path in by_name(args.work_dirs)}
    if len(runs) < len(args.work_dirs):
        parser.error('a run is named twice')
    if args.against and len(runs) > 1:
        parser.error('--against takes one run')
    for name, records in runs.items():
        s = summarize(records)
        print(
            f'{name}: loss {s["start"]:.3f} at the start, {s["peak"]:.3f} at '
            f'its peak (iteration {s["peak_step"]}), {s["end"]:.3f} at the end'
        )
    if args.save:
        save_reference(make_reference(args.save.stem, runs), args.save)
        print(f'{len(runs)} runs saved to {args.save}')
        if not args.out:
            return
    if args.against:
        reference = load_reference(args.against)
        ((name, records),) = runs.items()
        configs = [path.stem for path in args.work_dirs[0].glob('*.py')]
        if configs and reference.recipe not in configs:
            print(
                f'{name}: its config is {configs[0]}, and the reference '
                f'curves are of {reference.recipe}: other recipes, queues and '
                'data have other curves'
            )
        show_excursions(reference, name, records)
        plot_against(reference, name, records, out)
    else:
        plot_curves(runs, out)
    print(f'Drawn to {out}')


def by_name(work_dirs: list[Path]) -> list[tuple[str, Path]]:
    """Name each run by its folder, and by those above it if need be.

    Example:
        >>> [name for name, _ in by_name([Path('/a/run'), Path('/b/run')])]
        ['a/run', 'b/run']
    """
    parts = [path.resolve().parts for path in work_dirs]
    names: list[str] = []
    for depth in range(1, max(map(len, parts)) + 1):
        names = ['/'.join(part[-depth:]) for part in parts]
        if len({*names}) == len({*parts}):
            break
    return [*zip(names, work_dirs, strict=True)]


def show_excursions(reference: Reference, name: str, records: Records) -> None:
    """Print where a run leaves the band of its recipe."""
    found = find_excursions(reference, records)
    compared = max(
        len(curve_at(reference, records, key)) for key in reference.curves
    )
    last = reference.steps[compared - 1]
    for item in found:
        print(f'{name}: {item}')
    logged = {key for record in records for key in record}
    inside = [
        key
        for key in reference.curves
        if key in logged and key not in {item.name for item in found}
    ]
    if inside:
        print(
            f'{name}: in the band of {reference.recipe} up to iteration '
            f'{last}: {", ".join(inside)}'
        )
    missing = [key for key in reference.curves if key not in logged]
    if missing:
        print(f'{name}: not logged: {", ".join(missing)}')


if __name__ == '__main__':
    run_tool(main)
