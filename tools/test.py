#!/usr/bin/env python
"""Evaluate a fine-tuned detector or segmentor; write the metrics as JSON."""

import argparse
import json
import math
import os
import sys
from pathlib import Path

# As in train.py: threads that wait must not spin.
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from mmengine.config import Config  # noqa: E402
from mmengine.dist import is_main_process  # noqa: E402
from torch import nn  # noqa: E402

from pixcon_mm.checkpoint.load import (  # noqa: E402
    StateDict,
    load_strict,
    load_tensors,
    sha256_of,
)
from pixcon_mm.cli import (  # noqa: E402
    build_runner,
    end_process_group,
    parse,
    prepare_config,
)
from pixcon_mm.data_paths import check_data  # noqa: E402
from pixcon_mm.engine.model_state import unwrap  # noqa: E402
from pixcon_mm.errors import UserError, run_tool  # noqa: E402
from pixcon_mm.files import atomic_write  # noqa: E402


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line: the options of OpenMMLab's test.py scripts."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='the whole model, fine-tuned')
    parser.add_argument(
        '--out',
        type=Path,
        help='metrics (JSON); default: metrics.json in the work dir',
    )
    return parse(parser, argv)


def prepare(args: argparse.Namespace) -> Config:
    """The config with all that the command line asks for."""
    cfg = prepare_config(args, f'work_dirs/{Path(args.config).stem}_test')
    for key in ('test_dataloader', 'test_evaluator', 'test_cfg'):
        if not cfg.get(key):
            raise UserError(
                f'{args.config} cannot be tested: it has no {key!r}.'
            )
    # They are for training alone.
    cfg.train_dataloader = cfg.train_cfg = cfg.optim_wrapper = None
    cfg.val_dataloader = cfg.val_evaluator = cfg.val_cfg = None
    cfg.param_scheduler = None
    # MMEngine would load these over the checkpoint that is tested.
    cfg.load_from, cfg.resume = None, False
    return cfg


def load(model: nn.Module, tensors: StateDict, checkpoint: str) -> None:
    """Fill the whole model."""
    if 'image_queue.features' in tensors and not hasattr(model, 'image_queue'):
        raise UserError(
            f'{checkpoint} is a checkpoint of pre-training and has but a '
            'backbone for this model: fine-tune first, with tools/train.py '
            f'CONFIG --pretrained {checkpoint}.'
        )
    load_strict(model.state_dict(), tensors, 'model', checkpoint)


def check_out(path: Path) -> None:
    """Stop before a long evaluation whose metrics could not be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f'--out {path}: its folder cannot be made ({error.strerror}): '
            'name another file.'
        ) from error
    if path.is_dir():
        raise UserError(f'--out {path} is a folder: name a file in it.')


def main() -> None:
    """Evaluate."""
    args = parse_args()
    cfg = prepare(args)
    out = args.out or Path(cfg.work_dir) / 'metrics.json'
    tensors = load_tensors(args.checkpoint)
    check_data(cfg, ('test_dataloader',))
    check_out(out)
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
