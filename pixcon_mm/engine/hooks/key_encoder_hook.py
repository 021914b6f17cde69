"""Update of key encoder and queues after each optimiser step."""

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from pixcon_mm.engine.model_state import unwrap


@HOOKS.register_module()
class KeyEncoderUpdateHook(Hook):
    """Call ``model.after_optimizer_step`` after every optimiser step.

    With gradient accumulation, an optimiser step comes once in several
    iterations. The argument is the share of iterations that were done before
    this one (docs/method.md, section 8). Nothing happens to models without
    that method, so that baselines can use the same runtime config.
    """

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ) -> None:
        """Update if the optimiser has just stepped."""
        model = unwrap(runner.model)
        if (
            hasattr(model, 'after_optimizer_step')
            and runner.optim_wrapper.should_update()
        ):
            model.after_optimizer_step(runner.iter / runner.max_iters)
