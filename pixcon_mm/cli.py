"""Parts that the tools which run a config share."""

import argparse
import contextlib
import gc
import importlib
import io
import logging
import os
import warnings
from collections.abc import Iterator

import torch
from mmengine.config import Config
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from pixcon_mm.classes import check_names
from pixcon_mm.config import OptionsAction, load_config
from pixcon_mm.data_paths import LOADERS
from pixcon_mm.engine import PixConRunner
from pixcon_mm.errors import UserError, explain

FRAMEWORKS = ('mmpretrain', 'mmdet', 'mmseg')
# Rank and number of processes, by launcher.
LAUNCHERS = dict(
    pytorch=('RANK', 'WORLD_SIZE'),
    slurm=('SLURM_PROCID', 'SLURM_NTASKS'),
    mpi=('OMPI_COMM_WORLD_RANK', 'OMPI_COMM_WORLD_SIZE'),
)
# Longer than LoadSceneImage waits for a storage that is away, and shorter than
# NCCL waits for a process.
LOADER_TIMEOUT = 540  # seconds for a batch
# Warnings about optional packages, and about settings that recipes choose.
IRRELEVANT = (
    'Fail to import ``MultiScaleDeformable',
    'Setting MKL_NUM_THREADS',
    'faster_coco_eval is not installed',
    'Default ``avg_non_ignore`` is False',
    'When align_corners=True, the output would more aligned',
    # Of mmcv, in every worker, when ColorJitter uses Pillow as it should.
    "Only use 'alpha' for pillow backend",
    # Visualisers, of boxes that touch the border.
    'Warning: The (bbox|polygon) is out of bounds',
    # Under gradient accumulation the first iterations have no step.
    'Detected call of `scheduler.step',
)


def parse(
    parser: argparse.ArgumentParser, argv: list[str] | None
) -> argparse.Namespace:
    """Parse a tool's own options and those of every tool with a config."""
    add = parser.add_argument
    add('--work-dir', help='folder of logs and results')
    add('--launcher', choices=['none', *LAUNCHERS], default='none')
    add('--local_rank', '--local-rank', type=int, default=0)
    args = parse_options(parser, argv)
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def parse_options(
    parser: argparse.ArgumentParser, argv: list[str] | None
) -> argparse.Namespace:
    """Parse a tool's own options and ``--cfg-options``."""
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=OptionsAction,
        help='override the config: data_root=/images a.b=1 c=[1,2]',
    )
    try:
        return parser.parse_args(argv)
    except ValueError:
        # MMEngine's DictAction, which splits at the sign of equality.
        parser.error(
            '--cfg-options takes key=value, without spaces around the ='
        )


def prepare_config(args: argparse.Namespace, work_dir: str) -> Config:
    """Load a config and its framework; fit it to machine and options.

    Args:
        args (argparse.Namespace): ``config`` and what :func:`parse` adds.
        work_dir (str): Used if neither option nor config names one.
    """
    cfg = read_config(args.config, args.cfg_options)
    check_names(cfg)
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or work_dir
    for key in LOADERS:
        if cfg.get(key):
            fit_loader(cfg[key])
            if cfg.get('default_scope') == 'mmpretrain':
                # Its configs rely on their own launcher for this.
                collate = dict(type='default_collate')
                cfg[key].setdefault('collate_fn', collate)
    return cfg


def read_config(
    path: str, options: dict | None = None, scope: str | None = None
) -> Config:
    """Load a config and import its framework, by default that of ``scope``."""
    for message in IRRELEVANT:
        warnings.filterwarnings('ignore', message)
    with quiet():
        cfg = load_config(path, options)
        if scope:
            cfg.setdefault('default_scope', scope)
        import_framework(cfg.get('default_scope'))
    return cfg


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Discard what libraries print, warn and log (below errors) in here."""
    disabled = logging.root.manager.disable
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
    ):
        warnings.simplefilter('ignore')
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(disabled)


def import_framework(scope: str | None) -> None:
    """Register the models, data sets and metrics of a framework."""
    if scope in FRAMEWORKS:
        for part in ('datasets', 'models', 'evaluation'):
            importlib.import_module(f'{scope}.{part}')


def fit_loader(loader: dict) -> None:
    """Leave out what the machine does not allow."""
    loader.setdefault('pin_memory', True)
    loader.setdefault('persistent_workers', True)
    if not torch.cuda.is_available():
        loader['pin_memory'] = False
    if loader.get('num_workers'):
        # A worker that hangs must not hold the run up for ever.
        loader.setdefault('timeout', LOADER_TIMEOUT)
    else:
        loader['persistent_workers'] = False
        loader.pop('timeout', None)


def set_epochs(cfg: Config, epochs: int) -> None:
    """Change the length of a run counted in epochs, and its schedule with it.

    Parts of the schedule that last to the end are scaled, with their
    milestones. Others, as a warm-up, keep their length up to a tenth of the
    run, and what follows them moves along.
    """
    old = cfg.train_cfg.get('max_epochs')
    if old is None:
        raise UserError(
            f'--epochs: {cfg.filename} counts iterations; use --cfg-options '
            'train_cfg.max_iters=N, and the ends of param_scheduler.'
        )
    if epochs < 1:
        raise UserError(f'--epochs {epochs}: a run has at least one epoch.')

    def moved(epoch: int) -> int:
        if epoch >= old:
            return epochs
        return min(epoch, max(epochs // 10, 1))

    cfg.train_cfg.max_epochs = epochs
    parts, kept = cfg.get('param_scheduler') or [], []
    for part in [parts] if isinstance(parts, dict) else parts:
        if part.get('by_epoch', True):
            begin, end = part.get('begin', 0), part.get('end', old)
            if begin and moved(begin) >= moved(end):
                continue  # the run is too short for it
            if part.get('T_max') == end - begin:
                part.T_max = moved(end) - moved(begin)
            if end >= old and 'milestones' in part:
                part.milestones = [
                    round(epoch * epochs / old) for epoch in part.milestones
                ]
            for name in {'begin', 'end'} & {*part}:
                part[name] = moved(part[name])
        kept.append(part)
    if kept:
        cfg.param_scheduler = kept


def rank_and_size(launcher: str) -> tuple[int, int]:
    """Return this process's number and that of all which were started."""
    rank, size = LAUNCHERS.get(launcher, ('', ''))
    return int(os.environ.get(rank, 0)), int(os.environ.get(size, 1))


@contextlib.contextmanager
def config_errors(cfg: Config) -> Iterator[None]:
    """Raise a UserError for what the frameworks raise for a wrong key."""
    try:
        yield
    except TypeError as error:
        sentence = explain(error, cfg)
        if sentence is None:
            raise
        raise UserError(sentence) from error


def build_runner(cfg: Config) -> Runner:
    """Build the runner that the config names, or this project's."""
    if cfg.get('runner_type'):
        return RUNNERS.build(cfg)
    return PixConRunner.from_cfg(cfg)


def end_process_group() -> None:
    """Leave the process group: its threads must not outlive the interpreter.

    The group lives as long as a wrapped model that communicates over it, so
    drop the runner before.
    """
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        gc.collect()  # a runner is part of cycles
