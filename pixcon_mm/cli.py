"""Functions that all tools with a config share."""

import argparse
import contextlib
import gc
import importlib
import io
import logging
import os
import warnings
from collections.abc import Callable, Iterator

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
# Environment variables of rank, number of processes, and rank on its
# machine, by launcher.
LAUNCHERS = dict(
    pytorch=('RANK', 'WORLD_SIZE', 'LOCAL_RANK'),
    slurm=('SLURM_PROCID', 'SLURM_NTASKS', 'SLURM_LOCALID'),
    mpi=(
        'OMPI_COMM_WORLD_RANK',
        'OMPI_COMM_WORLD_SIZE',
        'OMPI_COMM_WORLD_LOCAL_RANK',
    ),
)
# Longer than LoadSceneImage waits for storage that does not answer, and
# shorter than NCCL waits for a process.
LOADER_TIMEOUT = 540  # seconds for a batch
# Warnings about optional packages, and about settings that are intended.
IRRELEVANT = (
    'Fail to import ``MultiScaleDeformable',
    'Setting MKL_NUM_THREADS',
    'faster_coco_eval is not installed',
    'Default ``avg_non_ignore`` is False',
    'When align_corners=True, the output would more aligned',
    # mmcv warns in every worker if ColorJitter uses Pillow, as intended.
    "Only use 'alpha' for pillow backend",
    # Visualisers warn about boxes that touch the border.
    'Warning: The (bbox|polygon) is out of bounds',
    # With gradient accumulation, the first iterations have no step.
    'Detected call of `scheduler.step',
)


def parse(
    parser: argparse.ArgumentParser, argv: list[str] | None
) -> argparse.Namespace:
    """Parse a tool's own options, and options of all tools with a config."""
    add = parser.add_argument
    add('--work-dir', help='folder for logs and results')
    add('--launcher', choices=['none', *LAUNCHERS], default='none')
    add('--local_rank', '--local-rank', type=int, default=0)
    args = parse_options(parser, argv)
    *_, local_rank = LAUNCHERS.get(args.launcher, ('',))
    # run_tool() reads it, also before MMEngine sets it for Slurm.
    os.environ.setdefault(
        'LOCAL_RANK', os.environ.get(local_rank, str(args.local_rank))
    )
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
        # The action splits each word at its equals sign.
        parser.error(
            '--cfg-options takes key=value, without spaces around the ='
        )


def at_least(least: int) -> Callable[[str], int]:
    """Make the type of an option that takes an integer with a lower bound.

    Example:
        >>> at_least(1)('3')
        3
        >>> at_least(1)('0')
        Traceback (most recent call last):
        argparse.ArgumentTypeError: '0' is not an integer of at least 1
    """

    def read(text: str) -> int:
        try:
            value = int(text)
        except ValueError:
            value = least - 1
        if value < least:
            raise argparse.ArgumentTypeError(
                f'{text!r} is not an integer of at least {least}'
            )
        return value

    return read


def prepare_config(args: argparse.Namespace, work_dir: str) -> Config:
    """Load a config and its framework; adapt it to machine and options.

    Args:
        args (argparse.Namespace): ``config`` and the options of
            :func:`parse`.
        work_dir (str): Work directory if neither option nor config names one.
    """
    cfg = read_config(args.config, args.cfg_options)
    check_names(cfg)
    check_windows(cfg)
    cfg.launcher = args.launcher
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or work_dir
    for key in LOADERS:
        if cfg.get(key):
            fit_loader(cfg[key])
            if cfg.get('default_scope') == 'mmpretrain':
                # MMPretrain's own tools do this for its configs.
                collate = dict(type='default_collate')
                cfg[key].setdefault('collate_fn', collate)
    return cfg


def read_config(
    path: str, options: dict | None = None, scope: str | None = None
) -> Config:
    """Load a config, and import the framework of its ``default_scope``.

    Args:
        path (str): Config file or recipe; see :func:`load_config`.
        options (dict, optional): New values by dotted key.
        scope (str, optional): ``default_scope`` for a config without one.
    """
    for message in IRRELEVANT:
        warnings.filterwarnings('ignore', message)
    with quiet():
        cfg = load_config(path, options)
        if scope:
            cfg.setdefault('default_scope', scope)
        import_framework(cfg.get('default_scope'))
    return cfg


def check_windows(cfg: Config) -> None:
    """Stop if windows of a segmentor's test would leave gaps between them.

    MMSegmentation notices this at the first validation, by an assertion.
    """
    model = cfg.get('model') or {}
    windows = model.get('test_cfg')
    if not isinstance(windows, dict) or windows.get('mode') != 'slide':
        return
    crop, stride = windows.get('crop_size'), windows.get('stride')
    if not all(isinstance(size, list | tuple) for size in (crop, stride)):
        return
    if any(step > side for step, side in zip(stride, crop, strict=True)):
        raise UserError(
            f'model.test_cfg: windows of crop_size {tuple(crop)} leave gaps '
            f'at a stride of {tuple(stride)}: choose a smaller '
            'model.test_cfg.stride, such as two thirds of crop_size.'
        )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Discard output, warnings and log messages (except errors)."""
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
    """Set options of a loader that fit the machine and the other options."""
    loader.setdefault('pin_memory', True)
    loader.setdefault('persistent_workers', True)
    if not torch.cuda.is_available():
        loader['pin_memory'] = False
    if loader.get('num_workers'):
        # A worker that hangs must not block the run for ever.
        loader.setdefault('timeout', LOADER_TIMEOUT)
    else:
        loader['persistent_workers'] = False
        loader.pop('timeout', None)


def set_epochs(cfg: Config, epochs: int) -> None:
    """Change the length of a run in epochs, and adapt its schedule.

    Parts of the schedule that last until the end are scaled, including their
    milestones. Other parts, such as a warm-up, keep their length, but at most
    a tenth of the run; the next part begins when they end.
    """
    old = cfg.train_cfg.get('max_epochs')
    if old is None:
        raise UserError(
            f'--epochs: {cfg.filename} counts iterations; use --cfg-options '
            'to set train_cfg.max_iters=N and the ends and milestones of '
            'param_scheduler.'
        )

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
                continue  # the run is too short for this part
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
    """Return this process's rank and the number of processes."""
    rank, size, _ = LAUNCHERS.get(launcher, ('', '', ''))
    return int(os.environ.get(rank, 0)), int(os.environ.get(size, 1))


@contextlib.contextmanager
def config_errors(cfg: Config) -> Iterator[None]:
    """Turn the frameworks' errors for a wrong key into a UserError."""
    try:
        yield
    except TypeError as error:
        sentence = explain(error, cfg)
        if sentence is None:
            raise
        raise UserError(sentence) from error


def build_runner(cfg: Config) -> Runner:
    """Build the runner that the config names, by default this project's."""
    if cfg.get('runner_type'):
        return RUNNERS.build(cfg)
    return PixConRunner.from_cfg(cfg)


def end_process_group() -> None:
    """Destroy the process group, so that its threads end before Python does.

    The caller must delete the runner first, as a wrapped model keeps the group
    alive.
    """
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
        gc.collect()  # deletes a runner, which is part of reference cycles
