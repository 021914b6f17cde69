"""Losses are read from the device when a line is logged, not at each step."""

import torch
from mmengine.hooks import RuntimeInfoHook
from mmengine.registry import HOOKS

from pixcon_mm.engine.logging_iteration import is_logging_iteration


@HOOKS.register_module()
class DeferredRuntimeInfoHook(RuntimeInfoHook):
    """MMEngine's RuntimeInfoHook without a host sync at each iteration.

    MMEngine reads each loss with ``.item()``, upon which the host waits for
    the device, once for each loss of each step. Here losses stay on the
    device until a line is logged, and then come over in one copy. The
    message hub gets the same values in the same order.
    """

    def __init__(self):
        self._waiting: list[dict[str, torch.Tensor]] = []

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ) -> None:
        """Keep the losses; hand all of them on at a logging iteration."""
        if outputs:
            self._waiting.append(outputs)
        if self._waiting and is_logging_iteration(runner, batch_idx):
            self._hand_on(runner)

    def _hand_on(self, runner) -> None:
        losses = [
            value.detach().reshape(())
            for outputs in self._waiting
            for value in outputs.values()
        ]
        values = iter(torch.stack(losses).tolist())
        for outputs in self._waiting:
            for name in outputs:
                runner.message_hub.update_scalar(f'train/{name}', next(values))
        self._waiting.clear()
