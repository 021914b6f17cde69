"""Calls the model after each optimiser step: key encoder, then queues."""

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from pixcon_mm.engine.unwrap import unwrap


@HOOKS.register_module()
class KeyEncoderUpdateHook(Hook):
    """Runs ``model.after_optimizer_step`` once an optimiser step.

    Under gradient accumulation that is once in so many iterations. The
    schedule's position is the share of iterations done before this one, as
    in the release (reference file, section 1.6). Models without that method
    are left alone, so that one runtime config serves baselines too.
    """

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ) -> None:
        """Update if the optimiser has just stepped."""
        model = unwrap(runner.model)
        if not hasattr(model, 'after_optimizer_step'):
            return
        if runner.optim_wrapper.should_update():
            model.after_optimizer_step(runner.iter / runner.max_iters)
