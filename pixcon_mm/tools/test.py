"""Evaluate a fine-tuned detector or segmentor; write the metrics as JSON."""

import argparse
import json
import math
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import is_main_process
from torch import nn

from pixcon_mm.checkpoint.load import (
    StateDict,
    load_strict,
    load_tensors,
    sha256_of,
)
from pixcon_mm.cli import (
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
from pixcon_mm.files import atomic_write, check_out


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line, with the usual options of test.py scripts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='the whole model, fine-tuned')
    parser.add_argument(
        '--out',
        type=Path,
        help='metrics (JSON); default: metrics.json in the work dir',
    )
    parser.add_argument(
        '--no-label-check',
        action='store_true',
        help='start without the look at the labels (tools/check_data.py)',
    )
    return parse(parser, argv)


def prepare(args: argparse.Namespace) -> Config:
    """Apply the command line to the config, and leave out training."""
    cfg = prepare_config(args, f'work_dirs/{Path(args.config).stem}_test')
    for key in ('test_dataloader', 'test_evaluator', 'test_cfg'):
        if not cfg.get(key):
            raise UserError(
                f'{args.config} cannot be tested: it has no {key!r}.'
            )
    cfg.train_dataloader = cfg.train_cfg = cfg.optim_wrapper = None
    cfg.val_dataloader = cfg.val_evaluator = cfg.val_cfg = None
    cfg.param_scheduler = None
    # MMEngine would load these over the checkpoint that is tested.
    cfg.load_from, cfg.resume = None, False
    return cfg


def load(model: nn.Module, tensors: StateDict, checkpoint: str) -> None:
    """Fill the whole model from a checkpoint."""
    if 'image_queue.features' in tensors and not hasattr(model, 'image_queue'):
        raise UserError(
            f'{checkpoint} is a checkpoint of pre-training and has only a '
            'backbone for this model: fine-tune first, with tools/train.py '
            f'CONFIG --pretrained {checkpoint}.'
        )
    load_strict(model.state_dict(), tensors, 'model', checkpoint)


def main(argv: list[str] | None = None) -> None:
    """Evaluate."""
    args = parse_args(argv)
    cfg = prepare(args)
    out = args.out or Path(cfg.work_dir) / 'metrics.json'
    tensors = load_tensors(args.checkpoint)
    check_data(cfg, ('test_dataloader',))
    if not args.no_label_check and rank_and_size(args.launcher)[0] == 0:
        check_labels(cfg, ('test_dataloader',))
    check_out(out)
    with config_errors(cfg):
        runner = build_runner(cfg)
        load(unwrap(runner.model), tensors, args.checkpoint)
        metrics = {
            name: float(value) if math.isfinite(value) else None
            for name, value in runner.test().items()
        }
    is_main = is_main_process()
    del runner
    end_process_group()
    if not is_main:
        return
    report = dict(
        config=args.config,
        checkpoint=args.checkpoint,
        sha256=sha256_of(args.checkpoint),
        cfg_options=args.cfg_options,
        metrics=metrics,
    )
    atomic_write(out, f'{json.dumps(report, indent=2)}\n'.encode())
    # A detector that finds nothing has no metrics.
    width = max(map(len, metrics), default=0)
    for name, value in metrics.items():
        print(f'{name:<{width}}  {value}')
    print(f'metrics in {out}')


if __name__ == '__main__':
    run_tool(main)
