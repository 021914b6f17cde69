"""Validation that the run before a resumed one could not finish."""

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import (
    EpochBasedTrainLoop,
    IterBasedTrainLoop,
    Runner,
)

# Key in the message hub, which checkpoints include. MMEngine would log a key
# that begins with 'val'.
VALIDATED = 'iter_of_validation'


@HOOKS.register_module()
class MissedValidationHook(Hook):
    """Validation of a resumed run whose checkpoint was not validated.

    A checkpoint is saved before the validation that is due at its iteration,
    unless gradients are being accumulated then.
    If the run is killed during that validation, MMEngine's loops continue
    without it: there would be no result of a complete run, and the best
    checkpoint could be missed. The validation is repeated, too, if the run was
    killed between its end and the next checkpoint.
    """

    # After StopSignalHook, which is registered earlier: a signal waits for
    # the end of the validation.
    priority = 'LOWEST'

    def before_train(self, runner: Runner) -> None:
        """Validate if it is due and was not done."""
        if (
            runner.val_loop is not None
            and runner.iter > 0
            and is_due(runner)
            and not is_validated(runner)
        ):
            runner.logger.info(
                'The checkpoint was saved before its validation, which is '
                'done now.'
            )
            runner.val_loop.run()

    def before_val_epoch(self, runner: Runner) -> None:
        """Note the iteration; the next checkpoint comes after the end."""
        runner.message_hub.update_info(VALIDATED, runner.iter)


def is_due(runner: Runner) -> bool:
    """Check if the loop validates at the run's iteration."""
    loop = runner.train_loop
    if not isinstance(loop, EpochBasedTrainLoop | IterBasedTrainLoop):
        return False  # it has rules of its own
    # The interval may change during a run.
    loop._decide_current_val_interval()
    done, length = loop.iter, loop.max_iters
    if isinstance(loop, EpochBasedTrainLoop):
        if loop.iter != loop.epoch * len(loop.dataloader):
            return False  # within an epoch
        done, length = loop.epoch, loop.max_epochs
    return done >= loop.val_begin and (
        done % loop.val_interval == 0 or done == length
    )


def is_validated(runner: Runner) -> bool:
    """Check if the metrics in the message hub are of the run's iteration."""
    known = runner.message_hub.runtime_info.get(VALIDATED)
    return known == runner.iter
