"""Check the images and labels of a config's data sets without a run."""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator

from mmengine.config import Config
from mmengine.registry import DefaultScope

from pixcon_mm.classes import check_names
from pixcon_mm.cli import config_errors, parse_options, read_config
from pixcon_mm.data_paths import LOADERS, check_data, leaves
from pixcon_mm.datasets.labels import find_problems
from pixcon_mm.datasets.labels.sources import class_of
from pixcon_mm.datasets.scene_check import find_broken
from pixcon_mm.errors import UserError, run_tool, unknown_type
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
    levels: Counter[str] = Counter()
    scope = DefaultScope.overwrite_default_scope(cfg.get('default_scope'))
    with scope, config_errors(cfg):
        for level, sentence in find(cfg, args.all):
            print(f'{level}: {sentence}')
            levels[level] += 1
    if not levels:
        print(f'{args.config} has no data that this tool checks.')
    else:
        print(
            f'{counted(levels["stop"], "problem")} would end a run; '
            f'{counted(levels["warning"], "warning")}.'
        )
    if levels['stop']:
        sys.exit(1)


def find(cfg: Config, everything: bool) -> Iterator[tuple[str, str]]:
    """Yield levels and sentences about images, and then about labels.

    Raises:
        UserError: If the type of a data set is not registered.
    """
    scope = cfg.get('default_scope')
    for loader in LOADERS:
        for leaf in leaves((cfg.get(loader) or {}).get('dataset') or {}):
            if 'type' in leaf and class_of(leaf, scope) is None:
                raise UserError(unknown_type(leaf['type'], scope, 'dataset'))
    yield from find_broken(cfg, everything)
    yield from find_problems(cfg, LOADERS, everything)


if __name__ == '__main__':
    run_tool(main)
