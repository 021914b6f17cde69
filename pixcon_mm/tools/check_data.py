"""Check the images and labels of a config's data sets without a run."""

import argparse
import sys

from pixcon_mm.classes import check_names
from pixcon_mm.cli import parse_options, read_config
from pixcon_mm.data_paths import LOADERS, check_data
from pixcon_mm.datasets.labels import find_problems
from pixcon_mm.datasets.scene_check import find_broken
from pixcon_mm.errors import run_tool
from pixcon_mm.wording import counted


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument(
        '--all',
        action='store_true',
        help='open all masks and decode all images; otherwise, of each data '
        'set, 500 masks are opened and headers of 500 images are read, or 500 '
        'images without labels are decoded',
    )
    return parse_options(parser, argv)


def main(argv: list[str] | None = None) -> None:
    """Print all findings; exit with 1 if a run would fail."""
    args = parse_args(argv)
    cfg = read_config(args.config, args.cfg_options)
    check_names(cfg)
    check_data(cfg, LOADERS)
    # A finding may have names that the terminal cannot show.
    sys.stdout.reconfigure(errors='backslashreplace')
    found = find_broken(cfg, everything=args.all)
    found += find_problems(cfg, LOADERS, everything=args.all)
    for level, sentence in found:
        print(f'{level}: {sentence}')
    stops = sum(level == 'stop' for level, _ in found)
    warnings = sum(level == 'warning' for level, _ in found)
    if not found:
        print(f'{args.config} has no data that this tool checks.')
    else:
        print(
            f'{counted(stops, "problem")} would end a run; '
            f'{counted(warnings, "warning")}.'
        )
    if stops:
        sys.exit(1)


if __name__ == '__main__':
    run_tool(main)
