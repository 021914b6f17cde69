"""Learning rate: the warm-up, and schedules that follow a changed config."""

from typing import Any

from mmengine.optim import LinearLR, _ParamScheduler
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.runner import Runner

# Entries of a scheduler's state that it computes. The others are settings.
PROGRESS = {
    *('last_step', '_global_step', '_last_value', 'base_values'),
    # Of schedulers that watch a metric.
    *('best', 'num_bad_epochs', 'cooldown_counter'),
}


@PARAM_SCHEDULERS.register_module()
class WarmupLR(LinearLR):
    """LinearLR that reaches the full rate right after its last iteration.

    MMEngine's reaches it one iteration earlier. Here iteration t of a warm-up
    of T iterations has the factor 1 - (1 - t / T)(1 - start_factor)
    (docs/method.md, section 9). Takes LinearLR's arguments; to be used by
    iterations, or by epochs with ``convert_to_iter_based``.
    """

    def __init__(self, *args, end: int, by_epoch: bool = True, **kwargs):
        end = end if by_epoch else end + 1
        super().__init__(*args, end=end, by_epoch=by_epoch, **kwargs)


def restore_schedulers(
    runner: Runner,
    states: list[dict] | None,
    epoch_length: int | None,
    has_changed: bool,
) -> list[str]:
    """Bring the schedulers to the run's position.

    Loads their state if they are configured as before. If not, they are run
    from the start to this iteration, as the config has them now.

    Args:
        runner (Runner): Its loop stands where it will continue, and its
            optimiser's state is loaded.
        states (list[dict], optional): Those of the checkpoint.
        epoch_length (int | None): Iterations of an epoch, in a run that
            counts epochs.
        has_changed (bool): Whether the values that schedules start from, or
            the length of an epoch, have changed.

    Returns:
        list[str]: A note if they do not continue from their state.
    """
    schedulers, states = runner.param_schedulers or [], states or []
    if (
        not has_changed
        and len(schedulers) == len(states)
        and all(map(_is_configured_as, schedulers, states))
    ):
        for scheduler, state in zip(schedulers, states, strict=True):
            scheduler.load_state_dict(
                {name: state[name] for name in PROGRESS & state.keys()}
            )
        return []
    if not schedulers:
        return []
    group = runner.optim_wrapper.param_groups[0]
    before = group['lr']
    _run_from_start(runner, schedulers, epoch_length)
    return [
        'The schedule has changed and is that of the config now: the '
        f'learning rate is {group["lr"]:.6g} here, and was {before:.6g}.'
    ]


def _is_configured_as(scheduler: _ParamScheduler, state: dict) -> bool:
    """Compare a scheduler's settings with those in a checkpoint."""
    own = scheduler.state_dict()
    settings = own.keys() - PROGRESS
    return settings == state.keys() - PROGRESS and all(
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
    for name in {scheduler.param_name for scheduler in schedulers}:
        for group in runner.optim_wrapper.param_groups:
            group[name] = group[f'initial_{name}']
    for scheduler in schedulers:
        # As its constructor left it, before its own first step.
        scheduler.last_step = scheduler._global_step = -1
        scheduler.step()
    for iteration in range(1, runner.iter + 1):
        # The step of an epoch comes after that of its last iteration, where
        # the checkpoint may have been in between.
        is_epoch_end = (
            epoch_length is not None
            and iteration % epoch_length == 0
            and iteration // epoch_length <= runner.epoch
        )
        for by_epoch in (False, True) if is_epoch_end else (False,):
            for scheduler in schedulers:
                if scheduler.by_epoch == by_epoch:
                    scheduler.step()
