"""Put a checkpoint back into a run whose config may have changed since.

What the config says now holds: length, schedule, learning rate, batch and
number of processes may differ from those of the run that wrote the
checkpoint. Each difference becomes a note in the log. What cannot follow, as
a model of other shapes, stops the run.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import Tensor, nn
from torch.optim import Optimizer

from pixcon_mm.checkpoint.load import describe_mismatch
from pixcon_mm.engine.log_line import batch_size
from pixcon_mm.engine.unwrap import unwrap
from pixcon_mm.errors import UserError

# How an optimiser computes, as opposed to what.
IMPLEMENTATION = ('fused', 'foreach', 'capturable', 'differentiable')


@dataclass(frozen=True)
class Scale:
    """The size of a run's steps, kept in its checkpoints.

    Attributes:
        total_batch (int): Images of an optimiser step, over all processes.
        epoch_length (int | None): Iterations of an epoch, in a run that
            counts epochs.
        processes (int): Number of processes.
        optimizer (str): Class of the optimiser.
    """

    total_batch: int
    epoch_length: int | None
    processes: int
    optimizer: str


def scale_of(runner: Runner) -> Scale:
    """Gather the scale of a run whose loop and optimiser are built."""
    loader = runner.train_dataloader
    steps = runner.optim_wrapper._accumulative_counts
    return Scale(
        total_batch=batch_size(loader) * runner.world_size * steps,
        epoch_length=(
            len(loader)
            if isinstance(runner.train_loop, EpochBasedTrainLoop)
            else None
        ),
        processes=runner.world_size,
        optimizer=type(runner.optim_wrapper.optimizer).__name__,
    )


def restore_model(model: nn.Module, tensors: dict, path: Path) -> None:
    """Load every tensor of a model, or stop.

    Raises:
        UserError: If the checkpoint is of another model.
    """
    model = unwrap(model)
    difference = describe_mismatch(model.state_dict(), tensors)
    if difference:
        raise UserError(
            f'{path} cannot be resumed with this config: {difference}. '
            'Resume with the settings that the run was started with, or '
            f'start a new run from its weights with --pretrained {path}.'
        )
    model.load_state_dict(tensors)


def restore_position(meta: dict, now: Scale) -> tuple[int, int, list[str]]:
    """Find where in the new run a checkpoint stands.

    A run counted in epochs keeps its epoch, and the share of the epoch that
    is done, whatever the batch. One counted in iterations keeps its
    iteration.

    Args:
        meta (dict): Of the checkpoint: ``epoch``, ``iter`` and perhaps
            ``scale``, what :func:`scale_of` gave then.
        now (Scale): Of this run.

    Returns:
        tuple[int, int, list[str]]: Epoch, iteration, and notes.
    """
    epoch, iteration = meta['epoch'], meta['iter']
    then = Scale(**meta['scale']) if 'scale' in meta else None
    notes = []
    if then and then.total_batch != now.total_batch:
        notes.append(
            f'The total batch is {now.total_batch} now and was '
            f'{then.total_batch}.'
        )
    if then and then.processes != now.processes:
        notes.append(
            f'The run has {now.processes} process(es) now and had '
            f'{then.processes}.'
        )
    length, old_length = now.epoch_length, then and then.epoch_length
    if length is None:
        return epoch, iteration, notes
    done = iteration - epoch * (old_length or length)
    if old_length is None and not 0 <= done <= length:
        # Of a run in iterations, or of MMEngine's own Runner, which does not
        # say how long an epoch was, and saves at the end of one.
        epoch, done = (epoch, 0) if epoch else divmod(iteration, length)
        notes.append(
            f'An epoch has {length} iterations, and the checkpoint is of '
            f'iteration {iteration}: the run continues in epoch {epoch + 1} '
            f'after {done} of them.'
        )
    elif old_length not in (None, length):
        notes.append(
            f'An epoch has {length} iterations now and had {old_length}: the '
            f'run continues in epoch {epoch + 1} after the same share of it.'
        )
        done = round(done / old_length * length)
    return epoch, epoch * length + done, notes


def restore_optimizer(
    wrapper: OptimWrapper, state: dict, meta: dict, path: Path
) -> list[str]:
    """Load the optimiser's buffers; keep the settings of the config.

    Args:
        wrapper (OptimWrapper): As the config and the schedulers have set it
            up for the first iteration.
        state (dict): Of the checkpoint.
        meta (dict): Of the checkpoint.
        path (Path): The checkpoint, for messages.

    Returns:
        list[str]: A note for each setting that has changed.

    Raises:
        UserError: If it is the state of another optimiser.
    """
    optimizer = wrapper.optimizer
    name = type(optimizer).__name__
    then = meta.get('scale', {}).get('optimizer', name)
    sizes = [len(group['params']) for group in optimizer.param_groups]
    old_sizes = [len(group['params']) for group in state['param_groups']]
    if then != name or sizes != old_sizes:
        raise UserError(
            f'{path} cannot be resumed with this config: it has the state of '
            f'{then} for {len(old_sizes)} group(s) of parameters, and the run '
            f'uses {name} for {len(sizes)}. Resume with the settings that the '
            'run was started with, or start a new run from its weights with '
            f'--pretrained {path}.'
        )
    # With parameters of several rates, MMEngine adds a group that stands for
    # the common one.
    asked = [settings_of(group) for group in wrapper.param_groups]
    state = dict(state)
    if not hasattr(wrapper, 'loss_scaler') or not state.get('loss_scaler'):
        # One of the two runs has no use for it.
        state.pop('loss_scaler', None)
    wrapper.load_state_dict(state)
    align(optimizer)
    notes = {}
    for group, settings in zip(wrapper.param_groups, asked, strict=True):
        for key, value in settings.items():
            if group.get(key, value) != value and key not in IMPLEMENTATION:
                notes[key] = f'{key} is {value} now and was {group[key]}.'
            group[key] = value
    return list(notes.values())


def align(optimizer: Optimizer) -> None:
    """Lay the buffers of an optimiser out in memory as its parameters are.

    They come as they were saved, perhaps in another memory format.
    """
    for parameter, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == parameter.shape:
                state[name] = torch.empty_like(
                    parameter, dtype=value.dtype, requires_grad=False
                ).copy_(value)


def settings_of(group: dict) -> dict:
    """Select what the config says of an optimiser's group."""
    # What a scheduler changes, rate or momentum, it notes the start of.
    return {
        key: value
        for key, value in group.items()
        if key != 'params' and f'initial_{key}' not in group
    }
