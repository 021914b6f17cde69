"""Validation of the weights and statistics that checkpoints have."""

from mmengine.dist import broadcast
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from pixcon_mm.engine.model_state import unwrap


@HOOKS.register_module()
class SameBuffersHook(Hook):
    """Give all processes the buffers of the first one before a validation.

    Without SyncBN, each process has batch norm statistics of its own, and
    checkpoints have those of the first process. If each process validated its
    share of the images with its own, the metrics would be of no checkpoint.
    """

    # After EMAHook, which exchanges the weights that are validated.
    priority = 'LOWEST'

    def before_val_epoch(self, runner: Runner) -> None:
        """Copy the buffers."""
        for buffer in unwrap(runner.model).buffers():
            broadcast(buffer)
