"""Checkpoints of a runner: gathered, saved, resumed from."""

import contextlib
import logging
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import mmengine
from mmengine.runner import EpochBasedTrainLoop, Runner
from mmengine.runner.checkpoint import weights_to_cpu
from torch import Tensor

from pixcon_mm.checkpoint.load import load_tensors
from pixcon_mm.checkpoint.run_checkpoint import (
    Checkpoint,
    list_checkpoints,
    load_checkpoint,
    newest_checkpoint,
    read_progress,
    write_checkpoint,
)
from pixcon_mm.engine.finite import find_non_finite
from pixcon_mm.engine.loops import ResumableEpochLoop
from pixcon_mm.engine.resuming import (
    restore_model,
    restore_optimizer,
    restore_position,
    scale_of,
)
from pixcon_mm.engine.resuming_schedules import restore_schedulers
from pixcon_mm.engine.unwrap import unwrap
from pixcon_mm.engine.work_dir import set_aside
from pixcon_mm.errors import UserError


def gather_checkpoint(
    runner: Runner, meta: dict, with_optimizer: bool, with_schedulers: bool
) -> Checkpoint:
    """Gather what a resumed run needs.

    Args:
        runner (Runner): In a training.
        meta (dict): ``epoch`` and ``iter`` that are done.
        with_optimizer (bool): Without, it has the weights alone.
        with_schedulers (bool): Whether the schedulers' state is kept too.
    """
    dataset = runner.train_dataloader.dataset
    checkpoint = dict(
        meta=dict(
            meta,
            scale=asdict(scale_of(runner)),
            cfg=runner.cfg.pretty_text,
            seed=runner.seed,
            experiment_name=runner.experiment_name,
            time=time.strftime('%Y%m%d_%H%M%S'),
            mmengine_version=mmengine.__version__,
            # For OpenMMLab's tools: names of classes, colours.
            dataset_meta=getattr(dataset, 'metainfo', None),
        ),
        state_dict=weights_to_cpu(unwrap(runner.model).state_dict()),
        message_hub=runner.message_hub.state_dict(),
    )
    if with_optimizer:
        checkpoint['optimizer'] = runner.optim_wrapper.state_dict()
    schedulers = runner.param_schedulers
    if with_schedulers and schedulers is not None:
        checkpoint['param_schedulers'] = (
            {k: [s.state_dict() for s in v] for k, v in schedulers.items()}
            if isinstance(schedulers, dict)
            else [s.state_dict() for s in schedulers]
        )
    return checkpoint


def save_finite(
    checkpoint: Checkpoint, path: Path, exempt: Iterable[str] = ()
) -> None:
    """Write a checkpoint unless a value in it is not finite.

    Args:
        checkpoint (dict): Weights, averaged weights and optimiser are judged.
        path (Path): Where to.
        exempt (Iterable[str]): Buffers that need not be finite.

    Raises:
        UserError: Names the first such tensor. Nothing is written.
    """
    tensors = dict(checkpoint['state_dict'])
    for name, value in checkpoint.get('ema_state_dict', {}).items():
        tensors[f'average of {name}'] = value
    states = checkpoint.get('optimizer', {}).get('state', {})
    for index, state in states.items():
        for name, value in state.items():
            tensors[f'{name} of parameter {index}'] = value
    bad = find_non_finite(
        {
            name: value
            for name, value in tensors.items()
            if isinstance(value, Tensor)
            and name.removeprefix('average of ') not in exempt
        }
    )
    if bad:
        raise UserError(
            f'{path} is not written: {bad[0]} is not finite after iteration '
            f'{checkpoint["meta"]["iter"]}, the training has diverged. '
            'Resume from the checkpoint before with a lower learning rate or '
            'a longer warm-up.'
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_checkpoint(checkpoint, path)


def find_start(runner: Runner, asked: str | None) -> Path | None:
    """Find the checkpoint to resume from.

    Args:
        runner (Runner): Its folder is searched; its log names damaged files.
        asked (str | None): A certain file, instead of the newest there.

    Returns:
        Path | None: None if there is none, and the run has to start.

    Raises:
        UserError: If there are some, and none that can be resumed from.
    """
    if asked is not None:
        return Path(asked)
    path, unfit = newest_checkpoint(Path(runner.work_dir))
    for reason in unfit.values():
        runner.logger.warning(reason)
    if path is None and unfit:
        raise UserError(
            f'None of the {len(unfit)} checkpoints in {runner.work_dir} can '
            'be resumed from: put a whole one there, or start over with '
            f'--overwrite. The last one: {[*unfit.values()][-1]}'
        )
    if unfit:
        runner.logger.warning(f'The run resumes from {path.name}.')
    return path


def restore_run(runner: Runner, path: Path) -> None:
    """Put a runner where a checkpoint was taken.

    Args:
        runner (Runner): Built, but not started.
        path (Path): The checkpoint.
    """
    if runner.rank > 0 and not path.is_file():
        raise UserError(
            f'There is no checkpoint {str(path)!r} for process {runner.rank}. '
            'It must be a local file, on a storage that all machines of the '
            'run share.'
        )
    checkpoint = load_checkpoint(path)
    runner.call_hook('after_load_checkpoint', checkpoint=checkpoint)
    meta = checkpoint['meta']
    restore_model(runner.model, checkpoint['state_dict'], path)
    scale = scale_of(runner)
    loop = runner.train_loop
    loop._epoch, loop._iter, notes = restore_position(meta, scale)
    resume_seed(runner, meta.get('seed'))
    runner.message_hub.load_state_dict(checkpoint['message_hub'])
    changes = restore_optimizer(
        runner.optim_wrapper, checkpoint['optimizer'], meta, path
    )
    old_length = meta.get('scale', {}).get('epoch_length', scale.epoch_length)
    is_changed = old_length != scale.epoch_length or any(
        note.startswith('initial_') for note in changes
    )
    if isinstance(loop, EpochBasedTrainLoop) and not isinstance(
        loop, ResumableEpochLoop
    ):
        start = loop._epoch * scale.epoch_length
        if loop._iter != start:
            loop._iter = start
            notes.append(
                f'The run continues at the start of epoch {loop._epoch + 1}: '
                'its loop cannot continue within one.'
            )
    notes += changes + restore_schedulers(
        runner,
        checkpoint.get('param_schedulers'),
        scale.epoch_length,
        is_changed,
    )
    runner.logger.info(f'The run resumes from {path}')
    for note in notes:
        runner.logger.warning(note)
    if runner.rank == 0:
        leave_behind(path, Path(runner.work_dir), runner.logger)


def resume_seed(runner: Runner, seed: int | None) -> None:
    """Keep the checkpoint's seed; the config's is for a new run."""
    asked = runner._randomness_cfg.get('seed')
    if seed is None or seed == asked:
        return
    if asked is not None:
        runner.logger.warning(
            f'The seed stays {seed}, that of the checkpoint; the config has '
            f'{asked}, which holds for new runs.'
        )
    runner._randomness_cfg.update(seed=seed)
    runner.set_randomness(**runner._randomness_cfg)


def leave_behind(path: Path, work_dir: Path, logger: logging.Logger) -> None:
    """Move checkpoints aside that are not of the run's past.

    They are those that are further than the one resumed from, or all if that
    comes from elsewhere. Otherwise the next ``--resume`` would take one.
    """
    others = list_checkpoints(work_dir)
    if path.resolve().parent == work_dir.resolve():
        here, further = read_progress(path), []
        for other in others:
            # One that cannot be resumed from is in nobody's way.
            with contextlib.suppress(UserError):
                if read_progress(other) > here:
                    further.append(other)
        others = further
    if others:
        aside = set_aside(work_dir, others)
        logger.warning(
            f'{", ".join(p.name for p in others)} did not lead to {path} and '
            f'{"is" if len(others) == 1 else "are"} now in {aside}.'
        )


def load_weights(runner: Runner, filename: str) -> Checkpoint:
    """Fill a model from a whole model's file, as far as it fits.

    What does not fit, as heads for other classes, is named in one warning.

    Returns:
        dict: ``state_dict``, all tensors of the file.

    Raises:
        UserError: If nothing fits.
    """
    if '://' in filename:
        raise UserError(
            f'load_from={filename!r} is not a local file: download it, and '
            'compare its checksum, before the training.'
        )
    given = {
        name.removeprefix('module.'): tensor
        for name, tensor in load_tensors(filename).items()
    }
    model = unwrap(runner.model).state_dict()
    checkpoint = dict(state_dict=given)
    runner.call_hook('after_load_checkpoint', checkpoint=checkpoint)
    fitting = {
        name: tensor
        for name, tensor in given.items()
        if name in model and model[name].shape == tensor.shape
    }
    if not fitting:
        raise UserError(
            f'load_from: none of the {len(given)} tensors of {filename} fits '
            f'the model; the first is {next(iter(given))}. Use --pretrained '
            'for weights of a backbone.'
        )
    unwrap(runner.model).load_state_dict({**model, **fitting})
    runner.logger.info(
        f'model: {len(fitting)}/{len(model)} tensors from {filename}'
    )
    random = [name for name in model if name not in fitting]
    if random:
        runner.logger.warning(
            f'{len(random)} tensors of the model start random, because '
            f'{filename} does not have them, or in another shape; the first '
            f'is {random[0]}.'
        )
    return checkpoint
