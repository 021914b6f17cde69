"""Pre-train or fine-tune, as a config describes."""

import argparse
import copy
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, MODELS, DefaultScope
from mmengine.runner import Runner
from torch.utils.data import Dataset

from pixcon_mm.checkpoint.load import load_tensors
from pixcon_mm.checkpoint.pretrained import WHERE_FROM, fill_from
from pixcon_mm.cli import (
    at_least,
    build_runner,
    config_errors,
    end_process_group,
    parse,
    prepare_config,
    quiet,
    rank_and_size,
    set_epochs,
)
from pixcon_mm.data_paths import check_data
from pixcon_mm.datasets.labels import check_labels
from pixcon_mm.engine import PixConRunner
from pixcon_mm.engine.hooks.missed_validation_hook import is_validated
from pixcon_mm.engine.hooks.stop_signal_hook import (
    StoppedBySignal,
    exit_stopped,
    ignore_signals,
)
from pixcon_mm.engine.model_state import unwrap
from pixcon_mm.engine.work_dir import claim, clear
from pixcon_mm.errors import UserError, explain, run_tool
from pixcon_mm.metrics.table import metric_table
from pixcon_mm.processes import die_with_parent, kill_workers
from pixcon_mm.quick import make_quick
from pixcon_mm.visualization.predictions import VISUALIZER, write_sheet
from pixcon_mm.wording import counted


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line, with the usual options of train.py scripts."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add('config', help='config file')
    add(
        '--resume',
        nargs='?',
        const='auto',
        help='continue from this checkpoint; without a value, from the newest '
        'complete checkpoint in the work dir',
    )
    add(
        '--overwrite',
        action='store_true',
        help='start over in a work dir that has checkpoints: move them and '
        'their logs to old-N/ in it',
    )
    add(
        '--epochs',
        type=at_least(1),
        help='length of the run; its schedule is scaled as well',
    )
    add(
        '--pretrained',
        metavar='FILE|torchvision|none',
        help='weights of the backbone: a checkpoint or other file of '
        "weights, torchvision's ResNet, or none (random)",
    )
    add('--amp', action='store_true', help='train in mixed precision')
    add('--no-validate', action='store_true', help='skip validation')
    add(
        '--no-label-check',
        action='store_true',
        help='skip the check of labels (tools/check_data.py)',
    )
    add(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate in proportion to the total batch',
    )
    add(
        '--total-batch',
        type=at_least(1),
        help='images per optimiser step, shared by all processes',
    )
    add(
        '--quick',
        action='store_true',
        help='short trial, a minute on a CPU: a few iterations with small '
        'images, in work_dirs/quick/<config name>; replaces the last trial',
    )
    return parse(parser, argv)


def prepare(args: argparse.Namespace) -> Config:
    """Apply the command line to the config."""
    cfg = prepare_config(args, default_work_dir(args))
    for key in ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper'):
        if not cfg.get(key):
            raise UserError(
                f'{args.config} cannot be trained: it has no {key!r}.'
            )
    if args.amp:
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if args.no_validate:
        cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    if args.resume == 'auto':
        cfg.resume = 'auto'
    elif args.resume:
        cfg.resume, cfg.load_from = True, args.resume
        if not Path(args.resume).is_file():
            raise UserError(
                f'--resume: there is no checkpoint {args.resume!r}.'
            )
    if cfg.get('resume') and args.overwrite:
        raise UserError('--resume and --overwrite exclude each other.')
    if args.epochs is not None:
        set_epochs(cfg, args.epochs)
    set_pretrained(cfg, args.pretrained)
    if args.auto_scale_lr:
        if not (cfg.get('auto_scale_lr') or {}).get('base_batch_size'):
            raise UserError(
                f'--auto-scale-lr: {args.config} does not state its total '
                'batch as auto_scale_lr=dict(base_batch_size=...).'
            )
        cfg.auto_scale_lr.enable = True
    if args.total_batch:
        share_batch(cfg, args.total_batch, rank_and_size(args.launcher)[1])
    has_length = cfg.get('resume') or args.epochs or args.total_batch
    if args.quick and has_length:
        raise UserError(
            '--quick sets the length and the batch of a trial: leave out '
            '--resume, --epochs and --total-batch.'
        )
    return cfg


def default_work_dir(args: argparse.Namespace) -> str:
    """Return the work directory of a config; a trial has its own."""
    name = Path(args.config).stem
    return f'work_dirs/quick/{name}' if args.quick else f'work_dirs/{name}'


def set_pretrained(cfg: Config, source: str | None) -> None:
    """Set the source of the backbone's weights; stop if there is none."""
    hooks = cfg.setdefault('default_hooks', {})
    if source is not None:
        hook = hooks.get('pretrained') or dict(type='PretrainedHook')
        hooks['pretrained'] = dict(hook, source=source)
        # With resume=True, load_from names the checkpoint; with 'auto', it is
        # for a run that has none yet.
        if cfg.get('load_from') and cfg.get('resume') is not True:
            raise UserError(
                f'--pretrained {source} fills the backbone and load_from the '
                'whole model: leave out one of them.'
            )
    hook = hooks.get('pretrained')
    starts_from = cfg.get('resume') or cfg.get('load_from')
    if hook and not hook.get('source') and not starts_from:
        raise UserError(f'{cfg.filename} fine-tunes: {WHERE_FROM}.')


def check_pretrained(cfg: Config) -> None:
    """Check the weights that a run starts from, before anything else is done.

    Raises:
        UserError: If they are missing, or those of a backbone do not fit.
    """
    if cfg.get('resume'):
        return
    if cfg.get('load_from'):
        load_tensors(cfg.load_from)
        return
    hook = cfg.default_hooks.get('pretrained') or {}
    source = hook.get('source')
    if source in (None, 'none'):
        return
    model = copy.deepcopy(cfg.model)
    if cfg.get('data_preprocessor'):
        model.setdefault('data_preprocessor', cfg.data_preprocessor)
    scope = DefaultScope.overwrite_default_scope(cfg.get('default_scope'))
    with config_errors(cfg), scope, quiet():
        fill_from(source, MODELS.build(model), hook.get('new_layers', ()))


def share_batch(cfg: Config, total: int, processes: int) -> None:
    """Set the batch per process so that a step uses ``total`` images."""
    steps = cfg.optim_wrapper.get('accumulative_counts', 1)
    if total % (processes * steps):
        raise UserError(
            f'--total-batch {total} cannot be divided evenly among '
            f'{counted(processes, "process")} with {counted(steps, "batch")} '
            f'per step: choose a multiple of {processes * steps}.'
        )
    cfg.train_dataloader.batch_size = total // (processes * steps)


def show_result(runner: Runner) -> None:
    """Print the metrics of a fine-tuning, and draw some predictions.

    The training has been saved, so an error here is only a warning.
    """
    if runner.rank != 0 or runner.cfg.get('default_scope') not in VISUALIZER:
        return
    metrics = {
        name.removeprefix('val/'): scalar.current()
        for name, scalar in runner.message_hub.log_scalars.items()
        if name.startswith('val/') and not name.endswith('time')
    }
    # Those of an earlier validation, from a checkpoint, are not the result.
    # Other runners do not note when they validate.
    is_result = not isinstance(runner, PixConRunner) or is_validated(runner)
    if metrics and is_result:
        print(metric_table(metrics))
    path = Path(runner.work_dir) / 'predictions.jpg'
    try:
        dataset = evaluation_dataset(runner)
        count = write_sheet(
            unwrap(runner.model), dataset, runner.cfg, path, count=4
        )
    except Exception as error:
        reason = explain(error) or f'{type(error).__name__}: {error}'
        print(
            f'warning: there is no picture of predictions: {reason}\n'
            'The training is complete and saved.',
            file=sys.stderr,
        )
    else:
        shown = counted(count, 'prediction')
        print(f'{shown} beside the truth in {path}', flush=True)


def evaluation_dataset(runner: Runner) -> Dataset:
    """Return the validation data, or the test data if there are none."""
    if runner.val_loop is not None:
        return runner.val_loop.dataloader.dataset
    loader = runner.cfg.get('test_dataloader')
    if not loader:
        raise UserError('the config has neither validation nor test data.')
    check_data(runner.cfg, ('test_dataloader',))
    return DATASETS.build(loader.dataset)


class ClearHook(Hook):
    """Remove an earlier run from the work directory, or the last trial.

    It does so when the config has proved good: all parts of the run have been
    built, and it is about to start.
    """

    def __init__(self, discard: bool):
        self.discard = discard

    @master_only
    def before_run(self, runner: Runner) -> None:
        """See the class."""
        folder, own_log = Path(runner.work_dir), Path(runner.log_dir)
        if aside := clear(folder, own_log, self.discard):
            runner.logger.info(f'The earlier run is now in {aside}.')


def train(
    cfg: Config, note: str | None, first_hook: Hook | None = None
) -> str | None:
    """Train.

    Args:
        cfg (Config): Config of the run.
        note (str | None): A line for the beginning of the log.
        first_hook (Hook, optional): A hook that precedes the config's.

    Returns:
        str | None: What to say if a signal has stopped the run; None if it
        is complete.
    """
    stopped = None
    with config_errors(cfg):
        runner = build_runner(cfg)
        if note:
            runner.logger.info(note)
        if first_hook:
            runner.register_hook(first_hook, priority='HIGHEST')
        try:
            runner.train()
        except StoppedBySignal as error:
            # Launchers send one when another process has ended.
            ignore_signals()
            stopped = str(error)
        else:
            show_result(runner)
    kill_workers()
    del runner
    end_process_group()
    return stopped


def main(argv: list[str] | None = None) -> None:
    """Train, as the command line says."""
    args = parse_args(argv)
    if args.launcher == 'pytorch':
        die_with_parent()  # The parent is torchrun, which may be killed.
    cfg = prepare(args)
    given = args.cfg_options or {}
    note = make_quick(cfg, given) if args.quick else None
    is_first = rank_and_size(args.launcher)[0] == 0
    if is_first:
        check_pretrained(cfg)
    loaders = ('train_dataloader', 'val_dataloader')
    check_data(cfg, loaders)
    if is_first and not args.no_label_check:
        check_labels(cfg, loaders)
    is_trial = args.quick and cfg.work_dir == default_work_dir(args)
    overwrite, resumes = args.overwrite or is_trial, bool(cfg.get('resume'))
    clear_hook = None
    if overwrite and not resumes:
        clear_hook = ClearHook(discard=not args.overwrite)
    lock: AbstractContextManager = nullcontext()
    if is_first:
        # The folder is locked as long as the file is open.
        lock = claim(Path(cfg.work_dir), resumes, overwrite)
    with lock:
        stopped = train(cfg, note, clear_hook)
    if stopped:
        exit_stopped(stopped)


def run() -> None:
    """Run the command ``pixcon-train``."""
    run_tool(main)


if __name__ == '__main__':
    run()
