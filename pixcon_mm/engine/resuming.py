"""Put a checkpoint back into a run whose config may have changed since.

The config's current values apply: length, schedule, learning rate, batch and
number of processes may differ from those of the run that wrote the
checkpoint. Each difference becomes a warning in the log. Changes that cannot
be applied, such as a model of other shapes, stop the run.
"""

import contextlib
from pathlib import Path

import torch
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import Tensor
from torch.optim import Optimizer

from pixcon_mm.checkpoint.fill import check_values, find_difference
from pixcon_mm.checkpoint.run_checkpoint import (
    list_checkpoints,
    load_checkpoint,
    newest_checkpoint,
    read_progress,
)
from pixcon_mm.classes import compare_trained
from pixcon_mm.engine.log_line import batch_size
from pixcon_mm.engine.model_state import ema_hook, unwrap
from pixcon_mm.engine.schedules import restore_schedulers
from pixcon_mm.engine.seeded_loading import ResumableEpochLoop
from pixcon_mm.engine.work_dir import set_aside
from pixcon_mm.errors import UserError
from pixcon_mm.wording import counted

# Settings of an optimiser that do not change its results, only the way in
# which they are computed.
IMPLEMENTATION = ('fused', 'foreach', 'capturable', 'differentiable')


def scale_of(runner: Runner) -> dict:
    """Gather the size of a run's steps, which its checkpoints keep.

    Returns:
        dict: ``total_batch``, images of an optimiser step over all processes;
        ``batch``, images of an iteration, fewer if gradients are accumulated;
        ``epoch_length``, iterations of an epoch, None in a run that does not
        count them; ``processes``; ``optimizer``, its class.
    """
    loader = runner.train_dataloader
    steps = runner.optim_wrapper._accumulative_counts
    counts_epochs = isinstance(runner.train_loop, EpochBasedTrainLoop)
    batch = batch_size(loader) * runner.world_size
    return dict(
        total_batch=batch * steps,
        batch=batch,
        epoch_length=len(loader) if counts_epochs else None,
        processes=runner.world_size,
        optimizer=type(runner.optim_wrapper.optimizer).__name__,
    )


def find_start(runner: Runner) -> Path | None:
    """Find the newest checkpoint of a run's folder that can be resumed from.

    Damaged files are named in the log.

    Returns:
        Path | None: None if there is none, so the run starts from scratch.

    Raises:
        UserError: If there are checkpoints, but none can be resumed from.
    """
    path, unfit = newest_checkpoint(Path(runner.work_dir))
    for reason in unfit.values():
        runner.logger.warning(reason)
    if path is None and unfit:
        raise UserError(
            f'None of the {len(unfit)} checkpoints in {runner.work_dir} can '
            'be resumed from: put a complete one there, or start over with '
            f'--overwrite. The last one: {[*unfit.values()][-1]}'
        )
    if unfit:
        runner.logger.warning(f'The run resumes from {path.name}.')
    return path


def restore_run(runner: Runner, path: Path) -> None:
    """Restore model, optimiser and position of a runner from a checkpoint.

    Args:
        runner (Runner): Built, but not started.
        path (Path): The checkpoint.

    Raises:
        UserError: If it cannot be resumed from with this config.
    """
    checkpoint = load_checkpoint(path)
    runner.call_hook('after_load_checkpoint', checkpoint=checkpoint)
    if 'ema_state_dict' in checkpoint and not ema_hook(runner):
        raise _misfit(
            path,
            'its weights are averages of an EMAHook, and the config has no '
            'such hook',
        )
    meta, scale = checkpoint['meta'], scale_of(runner)
    _restore_model(runner, checkpoint['state_dict'], path)
    trained = (meta.get('dataset_meta') or {}).get('classes') or ()
    renamed = compare_trained(runner.cfg, trained, str(path))
    notes = _restore_position(runner, meta, scale)
    _restore_seed(runner, meta.get('seed'))
    runner.message_hub.load_state_dict(checkpoint['message_hub'])
    notes += _restore_optimizer(
        runner.optim_wrapper, checkpoint['optimizer'], meta, path
    )
    notes += restore_schedulers(
        runner, checkpoint.get('param_schedulers'), scale['epoch_length']
    )
    runner.logger.info(f'The run resumes from {path}')
    for note in filter(None, [renamed, *notes]):
        runner.logger.warning(note)
    if runner.rank == 0:
        _leave_behind(runner, path)


def _restore_model(runner: Runner, tensors: dict, path: Path) -> None:
    """Load every tensor of a model, or stop."""
    model = unwrap(runner.model)
    own = model.state_dict()
    difference = find_difference(own, tensors, 'the file')
    if difference:
        raise _misfit(path, difference)
    check_values(own, tensors, 'model', str(path))
    model.load_state_dict(tensors)


def _misfit(path: Path, reason: str) -> UserError:
    return UserError(
        f'{path} cannot be resumed with this config: {reason}. Resume with '
        'the settings that the run was started with, or start a new run from '
        f'its weights with --pretrained {path}.'
    )


def _restore_position(runner: Runner, meta: dict, now: dict) -> list[str]:
    """Set epoch and iteration; return notes.

    A run counted in epochs keeps its epoch, and the share of the epoch that
    is done, whatever the batch. One counted in iterations keeps its
    iteration.
    """
    epoch, iteration = meta['epoch'], meta['iter']
    then, notes = meta['scale'], []
    for key, name in (
        ('total_batch', 'total batch'),
        ('processes', 'number of processes'),
    ):
        if then[key] != now[key]:
            notes.append(f'The {name} is {now[key]} now and was {then[key]}.')
    loop, length = runner.train_loop, now['epoch_length']
    if length is not None:
        old_length = then['epoch_length'] or length
        share = iteration / old_length - epoch
        if not 0 <= share <= 1:
            # From a run in iterations.
            share, epoch = iteration % length / length, iteration // length
        done = round(share * length)
        if not isinstance(loop, ResumableEpochLoop):
            done = 0  # it cannot continue within an epoch
        if (old_length, iteration) != (length, epoch * length + done):
            notes.append(
                f'An epoch has {length} iterations now and had {old_length}: '
                f'the run continues in epoch {epoch + 1} after {done} of them.'
            )
        iteration = epoch * length + done
    elif then.get('batch', now['batch']) != now['batch']:
        notes.append(
            f'An iteration has {counted(now["batch"], "image")} now and had '
            f'{then["batch"]}: the run continues at iteration {iteration} of '
            f'{loop.max_iters}.'
        )
    loop._epoch, loop._iter = epoch, iteration
    return notes


def _restore_seed(runner: Runner, seed: int | None) -> None:
    """Keep the checkpoint's seed; the config's is for a new run."""
    asked = runner._randomness_cfg.get('seed')
    if seed is None or seed == asked:
        return
    if asked is not None:
        runner.logger.warning(
            f"The checkpoint's seed, {seed}, stays in use; the config's, "
            f'{asked}, is for new runs.'
        )
    runner._randomness_cfg.update(seed=seed)
    runner.set_randomness(**runner._randomness_cfg)


def _restore_optimizer(
    wrapper: OptimWrapper, state: dict, meta: dict, path: Path
) -> list[str]:
    """Load the optimiser's buffers; keep the settings of the config.

    Returns a note for each setting that has changed.
    """
    optimizer = wrapper.optimizer
    name = type(optimizer).__name__
    old_name = meta['scale']['optimizer']
    sizes = [len(group['params']) for group in optimizer.param_groups]
    old_sizes = [len(group['params']) for group in state['param_groups']]
    if old_name != name or sizes != old_sizes:
        raise _misfit(
            path,
            f'it has the state of {old_name} for '
            f'{counted(len(old_sizes), "group")} of parameters, and the run '
            f'uses {name} for {len(sizes)}',
        )
    # If parameters have several rates, the wrapper has one group more than
    # the optimiser, for the common rate. A setting that a scheduler changes
    # (rate, momentum) is left out; its initial value is in initial_<setting>.
    settings = [
        {
            key: value
            for key, value in group.items()
            if key != 'params' and f'initial_{key}' not in group
        }
        for group in wrapper.param_groups
    ]
    state = dict(state)
    if not hasattr(wrapper, 'loss_scaler') or not state.get('loss_scaler'):
        # Only one of the two runs scales its losses.
        state.pop('loss_scaler', None)
    # PyTorch decides by these on which device counts of steps must be, and
    # would take them from the file.
    state['param_groups'] = [
        group | {key: own[key] for key in IMPLEMENTATION if key in own}
        for group, own in zip(
            state['param_groups'], optimizer.param_groups, strict=True
        )
    ]
    wrapper.load_state_dict(state)
    _align(optimizer)
    notes = {}
    for group, wanted in zip(wrapper.param_groups, settings, strict=True):
        for key, value in wanted.items():
            if group.get(key, value) != value and key not in IMPLEMENTATION:
                notes[key] = f'{key} is {value} now and was {group[key]}.'
            group[key] = value
    return list(notes.values())


def _align(optimizer: Optimizer) -> None:
    """Give an optimiser's buffers the memory layout of their parameters.

    They may have been saved in another memory format.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                state[name] = torch.empty_like(
                    parameter, dtype=value.dtype, requires_grad=False
                ).copy_(value)


def _leave_behind(runner: Runner, path: Path) -> None:
    """Move checkpoints aside that the resumed run does not continue.

    These are the checkpoints later than the one that is resumed from, or all
    of the work directory if that one is from another directory. The next
    ``--resume`` would otherwise take one of them, and the next best
    checkpoint would replace the best one.
    """
    work_dir = Path(runner.work_dir)
    best = sorted(work_dir.glob('best_*.pth'))
    others = [*list_checkpoints(work_dir), *best]
    if path.resolve().parent == work_dir.resolve():
        here, further = read_progress(path), []
        for other in others:
            # The best ones hold weights only; --resume ignores damaged ones.
            with contextlib.suppress(UserError):
                if read_progress(other, needed=['meta']) > here:
                    further.append(other)
        others = further
    if others:
        aside = set_aside(work_dir, others)
        runner.logger.warning(
            'The run does not continue '
            f'{", ".join(p.name for p in others)}: moved to {aside}.'
        )
