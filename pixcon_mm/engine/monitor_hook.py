"""Shows what the loss does not: similarities, weights, collapse."""

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from pixcon_mm.engine.logging_iteration import is_logging_iteration
from pixcon_mm.engine.unwrap import unwrap


@HOOKS.register_module()
class MonitorHook(Hook):
    """Logs ``model.monitors`` at logging iterations only.

    The model keeps them as tensors on its device; they are read (a host
    sync) only when a line is logged. Warns once when features collapse.

    Args:
        collapse_below (float): ``mon_feature_std`` that counts as collapse; it
            is 1 for features spread over the sphere, 0 when all are equal.
        patience (int): Logged values in a row below it before the warning.
    """

    # Before LoggerHook (BELOW_NORMAL) reads the message hub, and after the
    # key encoder's update (NORMAL) has set its momentum.
    priority = 55

    def __init__(self, collapse_below: float = 0.05, patience: int = 3):
        self.collapse_below = collapse_below
        self.patience = patience
        self._low = 0
        self._warned = False

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ) -> None:
        """Put the monitors of a logging iteration into the message hub."""
        model = unwrap(runner.model)
        monitors = getattr(model, 'monitors', None)
        if not monitors or not is_logging_iteration(runner, batch_idx):
            return
        for name, value in monitors.items():
            runner.message_hub.update_scalar(f'train/mon_{name}', value)
        self._watch(runner, float(monitors['feature_std']))

    def _watch(self, runner, feature_std: float) -> None:
        self._low = self._low + 1 if feature_std < self.collapse_below else 0
        if self._low < self.patience or self._warned:
            return
        self._warned = True
        runner.logger.warning(
            f'Features have collapsed: mon_feature_std is {feature_std:.3f} '
            f'(1 is healthy, below {self.collapse_below} all images look '
            'alike). Lower the learning rate, lengthen the warm-up, or check '
            'that the images differ.'
        )
