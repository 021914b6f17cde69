"""Evaluate a fine-tuned detector or segmentor; write the metrics as JSON."""

import argparse
import json
import math
import sys
from collections.abc import Mapping
from pathlib import Path

from mmengine.config import Config
from mmengine.runner import Runner

from pixcon_mm.checkpoint.fill import load_whole_model
from pixcon_mm.checkpoint.load import load_weights, sha256_of
from pixcon_mm.classes import compare_trained
from pixcon_mm.cli import (
    at_least,
    build_runner,
    config_errors,
    end_process_group,
    parse,
    prepare_config,
    rank_and_size,
)
from pixcon_mm.data_paths import check_data
from pixcon_mm.datasets.labels import check_labels
from pixcon_mm.engine.model_state import unwrap
from pixcon_mm.errors import UserError, run_tool
from pixcon_mm.files import atomic_write, check_folder, check_out
from pixcon_mm.metrics.table import metric_table
from pixcon_mm.visualization.predictions import write_pairs


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line, with the usual options of test.py scripts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='checkpoint of a fine-tuned model')
    parser.add_argument(
        '--out',
        type=Path,
        help='JSON file of metrics; default: metrics.json in the work dir',
    )
    parser.add_argument(
        '--show-dir',
        type=Path,
        metavar='DIR',
        help='write pictures with truth and prediction side by side to DIR',
    )
    parser.add_argument(
        '--show-count',
        type=at_least(1),
        default=20,
        metavar='N',
        help='number of pictures in --show-dir, spread over the test set; '
        'default: %(default)s',
    )
    parser.add_argument(
        '--no-label-check',
        action='store_true',
        help='skip the check of labels (tools/check_data.py)',
    )
    return parse(parser, argv)


def prepare(args: argparse.Namespace) -> Config:
    """Apply the command line to the config, and remove its training."""
    cfg = prepare_config(args, f'work_dirs/{Path(args.config).stem}_test')
    for key in ('test_dataloader', 'test_evaluator', 'test_cfg'):
        if not cfg.get(key):
            raise UserError(
                f'{args.config} cannot be tested: it has no {key!r}.'
            )
    cfg.train_dataloader = cfg.train_cfg = cfg.optim_wrapper = None
    cfg.val_dataloader = cfg.val_evaluator = cfg.val_cfg = None
    cfg.param_scheduler = None
    # MMEngine would load these in place of the tested checkpoint.
    cfg.load_from, cfg.resume = None, False
    return cfg


def json_numbers(metrics: Mapping[str, float]) -> dict[str, float | None]:
    """Round metrics; NaN and infinity, which JSON lacks, become None."""
    return {
        # Single precision has seven digits.
        name: round(float(value), 6) if math.isfinite(value) else None
        for name, value in metrics.items()
    }


def per_class(runner: Runner) -> dict[str, dict[str, float | None]]:
    """Collect the values of each class, by metric."""
    found = {}
    for metric in runner.test_loop.evaluator.metrics:
        prefix = f'{metric.prefix}/' if metric.prefix else ''
        for name, values in getattr(metric, 'per_class', {}).items():
            found[f'{prefix}{name}'] = json_numbers(values)
    return found


def main(argv: list[str] | None = None) -> None:
    """Evaluate the checkpoint, and write its metrics."""
    args = parse_args(argv)
    if args.out and args.out.suffix != '.json' and not args.out.is_dir():
        raise UserError(
            f'--out {args.out}: the metrics are written as JSON, so name a '
            'file that ends with .json. tools/predict.py writes predictions.'
        )
    is_first = rank_and_size(args.launcher)[0] == 0
    cfg = prepare(args)
    out = args.out or Path(cfg.work_dir) / 'metrics.json'
    weights = load_weights(args.checkpoint)
    trained = weights.dataset_meta.get('classes') or ()
    warning = compare_trained(cfg, trained, args.checkpoint)
    if warning and is_first:
        print(f'warning: {warning}', file=sys.stderr)
    check_data(cfg, ('test_dataloader',))
    if is_first and not args.no_label_check:
        check_labels(cfg, ('test_dataloader',))
    check_out(out)
    if args.show_dir:
        check_folder(args.show_dir, '--show-dir')
    with config_errors(cfg):
        runner = build_runner(cfg)
        model = unwrap(runner.model)
        load_whole_model(model, weights.tensors, args.checkpoint)
        metrics = json_numbers(runner.test())
    if is_first:
        report = dict(
            config=args.config,
            checkpoint=args.checkpoint,
            sha256=sha256_of(args.checkpoint),
            cfg_options=args.cfg_options,
            metrics=metrics,
            per_class=per_class(runner),
        )
        atomic_write(out, f'{json.dumps(report, indent=2)}\n'.encode())
        print(metric_table(metrics))
        print(f'metrics in {out}, with values of each class')
        if args.show_dir:
            count = write_pairs(
                model,
                runner.test_loop.dataloader.dataset,
                cfg,
                args.show_dir,
                args.show_count,
            )
            print(
                f'{count} pictures of truth and prediction in {args.show_dir}'
            )
    del runner
    end_process_group()


if __name__ == '__main__':
    run_tool(main)
