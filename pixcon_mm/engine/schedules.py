"""Learning rate: the warm-up, and schedules that follow a changed config."""

from mmengine.optim import LinearLR, ReduceOnPlateauParamScheduler
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.runner import Runner


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
    runner: Runner, states: list[dict] | None, epoch_length: int | None
) -> list[str]:
    """Bring the schedulers of the current config to the run's position.

    They are stepped from the start, once for each step done so far, so that
    the config may have changed since.

    Args:
        runner (Runner): Runner whose loop is at the position where it will
            continue, and whose optimiser's state is loaded.
        states (list[dict], optional): Those of the checkpoint. Used for
            schedulers that watch a metric, which cannot be stepped again.
        epoch_length (int | None): Iterations of an epoch, in a run that
            counts epochs.

    Returns:
        list[str]: A note if the learning rate is not that of the checkpoint,
        or if the config's cannot apply.
    """
    schedulers = runner.param_schedulers or []
    if any(isinstance(s, ReduceOnPlateauParamScheduler) for s in schedulers):
        for scheduler, state in zip(schedulers, states or [], strict=False):
            scheduler.load_state_dict(state)
        return [
            'The schedule watches a metric and continues as in the '
            'checkpoint: a learning rate or schedule that has changed in the '
            'config does not apply.'
        ]
    groups = runner.optim_wrapper.param_groups
    before = groups[0]['lr']
    for name in {scheduler.param_name for scheduler in schedulers}:
        for group in groups:
            group[name] = group[f'initial_{name}']
    for scheduler in schedulers:
        # Repeat the first step, which its constructor did.
        scheduler.last_step = scheduler._global_step = -1
        scheduler.step()
    for iteration in range(1, runner.iter + 1):
        for scheduler in schedulers:
            if not scheduler.by_epoch:
                scheduler.step()
        # An epoch's step comes after its last iteration's. The checkpoint may
        # be from between the two: then runner.epoch does not count it yet.
        if (
            epoch_length is not None
            and iteration % epoch_length == 0
            and iteration // epoch_length <= runner.epoch
        ):
            for scheduler in schedulers:
                if scheduler.by_epoch:
                    scheduler.step()
    rate = groups[0]['lr']
    if rate == before:
        return []
    return [
        'The schedule has changed, and that of the config applies: the '
        f'learning rate is now {rate:.6g} and was {before:.6g}.'
    ]
