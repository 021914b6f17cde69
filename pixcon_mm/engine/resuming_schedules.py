"""Bring a resumed run's schedulers to where it continues."""

from typing import Any

from mmengine.optim import _ParamScheduler
from mmengine.runner import Runner

# What a scheduler computes, as opposed to what it is configured with.
PROGRESS = (
    'last_step',
    '_global_step',
    '_last_value',
    'base_values',
    # Of those that watch a metric.
    'best',
    'num_bad_epochs',
    'cooldown_counter',
)


def restore_schedulers(
    runner: Runner, states: Any, epoch_length: int | None, is_changed: bool
) -> list[str]:
    """Bring the schedulers to the run's position.

    Their state is loaded if they are configured as before. If not, they are
    run from the start to this iteration, as the config has them now.

    Args:
        runner (Runner): Its loop stands where it will continue, and its
            optimiser's state is loaded.
        states (list | dict): Of the checkpoint.
        epoch_length (int | None): Iterations of an epoch, in a run that
            counts epochs.
        is_changed (bool): Whether the values that schedules start from, or
            the length of an epoch, in which they may be counted, have
            changed.

    Returns:
        list[str]: A note if they did not continue from their state.
    """
    if runner.param_schedulers is None:
        return []
    schedulers, states = _flat(runner.param_schedulers), _flat(states or [])
    is_same = len(schedulers) == len(states) and all(
        _is_configured_as(scheduler, state)
        for scheduler, state in zip(schedulers, states, strict=True)
    )
    if is_same and not is_changed:
        for scheduler, state in zip(schedulers, states, strict=True):
            progress = {k: v for k, v in state.items() if k in PROGRESS}
            scheduler.load_state_dict(progress)
        return []
    group = runner.optim_wrapper.param_groups[0]
    before = group['lr']
    _run_from_start(runner, schedulers, epoch_length)
    return [
        'The schedule has changed and is that of the config now: the '
        f'learning rate is {group["lr"]:.6g} here, and was {before:.6g}.'
    ]


def _flat(schedulers: Any) -> list:
    if isinstance(schedulers, dict):
        return [s for part in schedulers.values() for s in part]
    return list(schedulers)


def _is_configured_as(scheduler: _ParamScheduler, state: dict) -> bool:
    """Compare what a scheduler computes from with a checkpoint's."""
    own = scheduler.state_dict()
    settings = own.keys() - {*PROGRESS}
    return settings == state.keys() - {*PROGRESS} and all(
        # Functions follow from the other settings, and are not saved.
        callable(own[key]) or _as_tuple(own[key]) == _as_tuple(state[key])
        for key in settings
    )


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _run_from_start(
    runner: Runner,
    schedulers: list[_ParamScheduler],
    epoch_length: int | None,
) -> None:
    """Step new schedulers as often as the run so far would have."""
    groups = runner.optim_wrapper.param_groups
    for name in {scheduler.param_name for scheduler in schedulers}:
        for group in groups:
            group[name] = group[f'initial_{name}']
    for scheduler in schedulers:
        # As its constructor left it, before its own first step.
        scheduler.last_step = scheduler._global_step = -1
        scheduler.step()
    by_iteration = [s for s in schedulers if not s.by_epoch]
    by_epoch = [s for s in schedulers if s.by_epoch]
    for iteration in range(1, runner.iter + 1):
        for scheduler in by_iteration:
            scheduler.step()
        if epoch_length is None or iteration % epoch_length:
            continue
        # The step of an epoch comes after that of its last iteration, where
        # the checkpoint may have been in between.
        if iteration // epoch_length <= runner.epoch:
            for scheduler in by_epoch:
                scheduler.step()
