"""When a line is logged: the iterations that may wait for the device."""

from mmengine.hooks import LoggerHook
from mmengine.runner import Runner


def is_logging_iteration(runner: Runner, batch_idx: int) -> bool:
    """Whether LoggerHook may write a line after this iteration.

    Args:
        runner (Runner): The runner, with its hooks.
        batch_idx (int): Index of the batch in the epoch.
    """
    hook = next((h for h in runner.hooks if isinstance(h, LoggerHook)), None)
    if hook is None:
        return True
    return (
        hook.every_n_inner_iters(batch_idx, hook.interval)
        or hook.end_of_epoch(runner.train_dataloader, batch_idx)
        or hook.is_last_train_iter(runner)
    )
