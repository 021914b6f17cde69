"""Monitors of what the loss does not show: similarities, weights, collapse."""

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from pixcon_mm.engine.log_line import is_logging_iteration
from pixcon_mm.engine.model_state import unwrap


@HOOKS.register_module()
class MonitorHook(Hook):
    """Log ``model.monitors``; warn once when features collapse.

    The model keeps them as tensors on its device; they are read (a host
    sync) only when a line is logged.

    Args:
        collapse_below (float): ``mon_feature_std`` that counts as collapse;
            it is 1 for features spread over the sphere, 0 when all are equal.
        patience (int): Logged values in a row below it before the warning.
    """

    # Before LoggerHook (BELOW_NORMAL) reads the message hub, and after the
    # key encoder's update (NORMAL) has set its momentum.
    priority = 55

    def __init__(self, collapse_below: float = 0.05, patience: int = 3):
        self.collapse_below = collapse_below
        self.patience = patience
        self._low = 0

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ) -> None:
        """Put the monitors of a logging iteration into the message hub."""
        monitors = getattr(unwrap(runner.model), 'monitors', None)
        if not monitors or not is_logging_iteration(runner, batch_idx):
            return
        for name, value in monitors.items():
            runner.message_hub.update_scalar(f'train/mon_{name}', value)
        if self._low == self.patience:
            return  # the warning was given
        feature_std = float(monitors['feature_std'])
        self._low = self._low + 1 if feature_std < self.collapse_below else 0
        if self._low == self.patience:
            runner.logger.warning(
                'Features have collapsed: mon_feature_std is '
                f'{feature_std:.3f} (1 is healthy, below '
                f'{self.collapse_below} all images look alike). Lower the '
                'learning rate, lengthen the warm-up, or check that the '
                'images differ.'
            )
