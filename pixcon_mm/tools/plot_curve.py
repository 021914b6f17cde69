"""Draw the loss curves of one or several runs on one axis."""

import argparse
from pathlib import Path

from pixcon_mm.errors import run_tool
from pixcon_mm.visualization.curves import (
    plot_curves,
    read_records,
    summarize,
)


def main(argv: list[str] | None = None) -> None:
    """Draw, and print start, peak and end of each run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('work_dirs', nargs='+', type=Path)
    parser.add_argument('--out', type=Path, default=Path('curve.png'))
    args = parser.parse_args(argv)
    runs = {path.name: read_records(path) for path in args.work_dirs}
    for name, records in runs.items():
        s = summarize(records)
        print(
            f'{name}: loss {s["start"]:.3f} at the start, {s["peak"]:.3f} at '
            f'its peak (iteration {s["peak_step"]}), {s["end"]:.3f} at the end'
        )
    plot_curves(runs, args.out)
    print(f'Drawn to {args.out}')


if __name__ == '__main__':
    run_tool(main)
