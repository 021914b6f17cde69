#!/usr/bin/env python
"""Train whatever a config describes: pre-training or fine-tuning."""

import argparse
import contextlib
import importlib
import io
import logging
import os
import sys
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
# Of no concern here: pre-training needs no compiled operator.
warnings.filterwarnings('ignore', 'Fail to import ``MultiScaleDeformable')
warnings.filterwarnings('ignore', 'Setting MKL_NUM_THREADS')

import torch  # noqa: E402
from mmengine.config import Config, DictAction  # noqa: E402
from mmengine.registry import RUNNERS  # noqa: E402

from pixcon_mm.config import load_config  # noqa: E402
from pixcon_mm.engine import PixConRunner  # noqa: E402
from pixcon_mm.engine.pretrained_hook import WHERE_FROM  # noqa: E402
from pixcon_mm.errors import UserError, run_tool  # noqa: E402

FRAMEWORKS = ('mmpretrain', 'mmdet', 'mmseg')
LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Command line: the options of OpenMMLab's train.py scripts."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('config', help='config file')
    add('--work-dir', help='where logs and checkpoints go')
    add(
        '--resume',
        nargs='?',
        const='auto',
        help='go on from this checkpoint; from the newest in the work dir '
        'if none is named',
    )
    add(
        '--pretrained',
        metavar='FILE|torchvision|none',
        help='where the weights of the backbone come from: a checkpoint or '
        "other file of weights, torchvision's ResNet, or nowhere (random)",
    )
    add('--amp', action='store_true', help='train in mixed precision')
    add('--no-validate', action='store_true', help='leave out validation')
    add(
        '--auto-scale-lr',
        action='store_true',
        help="scale the learning rate by the total batch over the recipe's",
    )
    add(
        '--total-batch',
        type=int,
        help='images a step over all processes, whatever their number',
    )
    add('--no-pin-memory', action='store_true')
    add('--no-persistent-workers', action='store_true')
    add(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        help='override the config: data_root=/images a.b=1 c=[1,2]',
    )
    add(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
    )
    add('--local_rank', '--local-rank', type=int, default=0)
    args = parser.parse_args(argv)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def prepare(args: argparse.Namespace) -> Config:
    """The config with all that the command line asks for."""
    cfg = load_quietly(args)
    for key in ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper'):
        if not cfg.get(key):
            raise UserError(
                f'{args.config} cannot be trained: it has no {key!r}.'
            )
    cfg.launcher = args.launcher
    name = Path(args.config).stem
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or f'work_dirs/{name}'
    if args.amp:
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.resume:
        cfg.resume = True
        cfg.load_from = None if args.resume == 'auto' else args.resume
        if cfg.load_from and not Path(cfg.load_from).is_file():
            raise UserError(
                f'--resume: there is no checkpoint {cfg.load_from!r}.'
            )
    set_pretrained(cfg, args.pretrained)
    if args.auto_scale_lr:
        if not (cfg.get('auto_scale_lr') or {}).get('base_batch_size'):
            raise UserError(
                f'--auto-scale-lr: {args.config} does not state its total '
                'batch as auto_scale_lr=dict(base_batch_size=...).'
            )
        cfg.auto_scale_lr.enable = True
    for key in LOADERS:
        if cfg.get(key):
            fit_loader(cfg[key], args)
            if cfg.get('default_scope') == 'mmpretrain':
                # Its configs rely on their own launcher for this.
                collate = dict(type='default_collate')
                cfg[key].setdefault('collate_fn', collate)
    if args.total_batch:
        share_batch(cfg, args.total_batch, world_size(args.launcher))
    return cfg


def set_pretrained(cfg: Config, source: str | None) -> None:
    """Tell the hook that fills the backbone where from."""
    hooks = cfg.setdefault('default_hooks', {})
    if source is not None:
        if (
            source not in ('torchvision', 'none')
            and not Path(source).is_file()
        ):
            raise UserError(
                f'--pretrained: there is no file of weights {source!r}.'
            )
        hooks['pretrained'] = dict(type='PretrainedHook', source=source)
    hook = hooks.get('pretrained')
    if (
        hook
        and not hook.get('source')
        and not (cfg.get('resume') or cfg.get('load_from'))
    ):
        raise UserError(f'{cfg.filename} fine-tunes: {WHERE_FROM}.')


def load_quietly(args: argparse.Namespace) -> Config:
    """Load the config and the framework of its default scope."""
    # Importing a framework logs, warns and prints what it runs without.
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            cfg = load_config(args.config, args.cfg_options)
            if cfg.get('default_scope') in FRAMEWORKS:
                importlib.import_module(f'{cfg.default_scope}.datasets')
    finally:
        logging.disable(logging.NOTSET)
    return cfg


def fit_loader(loader: dict, args: argparse.Namespace) -> None:
    """Leave out what the machine or the options do not allow."""
    loader.setdefault('pin_memory', True)
    loader.setdefault('persistent_workers', True)
    if args.no_pin_memory or not torch.cuda.is_available():
        loader['pin_memory'] = False
    if args.no_persistent_workers or not loader.get('num_workers'):
        loader['persistent_workers'] = False


def share_batch(cfg: Config, total: int, processes: int) -> None:
    """Set the batch of a process so that a step sees ``total`` images."""
    steps = cfg.optim_wrapper.get('accumulative_counts', 1)
    if total % (processes * steps):
        raise UserError(
            f'--total-batch {total} cannot be shared evenly by {processes} '
            f'process(es) with {steps} batch(es) a step: choose a multiple '
            f'of {processes * steps}.'
        )
    cfg.train_dataloader.batch_size = total // (processes * steps)


def world_size(launcher: str) -> int:
    """Number of processes that a launcher has started."""
    names = dict(
        pytorch='WORLD_SIZE', slurm='SLURM_NTASKS', mpi='OMPI_COMM_WORLD_SIZE'
    )
    return int(os.environ.get(names.get(launcher, ''), 1))


def main() -> None:
    """Train."""
    cfg = prepare(parse_args())
    runner_type = cfg.get('runner_type')
    runner = RUNNERS.build(cfg) if runner_type else PixConRunner.from_cfg(cfg)
    runner.train()


if __name__ == '__main__':
    run_tool(main)
