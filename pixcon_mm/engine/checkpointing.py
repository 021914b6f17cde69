"""What a runner saves, and how it continues from it."""

import contextlib
import logging
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import mmengine
import torch
from mmengine.runner import Runner
from mmengine.runner.checkpoint import weights_to_cpu
from torch import Tensor

from pixcon_mm.engine.resuming import (
    restore_model,
    restore_optimizer,
    restore_position,
    restore_schedulers,
    scale_of,
)
from pixcon_mm.engine.unwrap import unwrap
from pixcon_mm.engine.work_dir import set_aside
from pixcon_mm.errors import UserError
from pixcon_mm.weights.checkpoints import (
    Checkpoint,
    list_checkpoints,
    newest_checkpoint,
    read_checkpoint,
    read_progress,
    write_checkpoint,
)
from pixcon_mm.weights.reading import read_tensors


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


def save_finite(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint unless a value in it is not finite.

    Raises:
        UserError: Names the first such tensor. Nothing is written.
    """
    tensors = dict(checkpoint['state_dict'])
    states = checkpoint.get('optimizer', {}).get('state', {})
    for index, state in states.items():
        for name, value in state.items():
            tensors[f'{name} of parameter {index}'] = value
    bad = next((n for n, t in tensors.items() if not is_finite(t)), None)
    if bad:
        raise UserError(
            f'{path} is not written: {bad} is not finite after iteration '
            f'{checkpoint["meta"]["iter"]}, the training has diverged. '
            'Resume from the checkpoint before with a lower learning rate or '
            'a longer warm-up.'
        )
    write_checkpoint(checkpoint, path)


def is_finite(value: Any) -> bool:
    """Check a tensor; other values pass."""
    if not isinstance(value, Tensor) or not value.is_floating_point():
        return True
    # A sum is not finite if a summand is not, and reads the tensor once. It
    # can overflow, so a suspicion is checked.
    return bool(value.sum().isfinite()) or bool(torch.isfinite(value).all())


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
    if not path.is_file():
        raise UserError(
            f'Process {runner.rank} has no {path}: the work directory must '
            'be on a storage that all machines share.'
        )
    checkpoint = read_checkpoint(path)
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
    notes += changes + restore_schedulers(
        runner,
        checkpoint.get('param_schedulers'),
        scale.epoch_length,
        is_changed,
    )
    runner.logger.info(f'resumes from {path}')
    for note in notes:
        runner.logger.warning(note)
    if runner.rank == 0 and path.resolve().parent == (
        Path(runner.work_dir).resolve()
    ):
        leave_behind(path, runner.logger)


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


def leave_behind(path: Path, logger: logging.Logger) -> None:
    """Move checkpoints aside that are further than the one resumed from.

    Otherwise the next ``--resume`` would take one of them.
    """
    here, further = read_progress(path), []
    for other in list_checkpoints(path.parent):
        # One that cannot be resumed from is in nobody's way.
        with contextlib.suppress(UserError):
            if read_progress(other) > here:
                further.append(other)
    if further:
        aside = set_aside(path.parent, further)
        logger.warning(
            f'{", ".join(p.name for p in further)} went further than '
            f'{path.name} and {"is" if len(further) == 1 else "are"} now in '
            f'{aside}.'
        )


def load_weights(runner: Runner, filename: str) -> None:
    """Fill a model from a whole model's file, as far as it fits.

    What does not fit, as heads for other classes, is named in one warning.

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
        for name, tensor in read_tensors(filename).items()
    }
    model = unwrap(runner.model).state_dict()
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
            f'{len(random)} tensors of the model are not in {filename}, or '
            f'of another shape there, and start random; the first is '
            f'{random[0]}.'
        )
