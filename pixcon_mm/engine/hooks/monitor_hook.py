"""Monitors of what the loss does not show: similarities, weights, collapse.

The path of a value: ``PixConHead`` computes it, ``PixCon.loss`` keeps it in
``monitors``, this hook puts it into MMEngine's message hub as ``mon_<name>``,
and ``ReadableLogProcessor`` prints it without the prefix.
"""

from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch import Tensor

from pixcon_mm.engine.log_line import is_logging_iteration
from pixcon_mm.engine.model_state import unwrap
from pixcon_mm.evaluation.metrics import effective_rank

RANK_CELLS = 512  # number of cells for the effective rank, at most
# Values of mon_feature_std below this count as collapse; it is 1 for features
# spread over the sphere, and 0 when all are equal.
COLLAPSE = 0.05
PATIENCE = 3  # logged values in a row below that bound before the warning
# Iterations at the start without a warning, because random weights map all
# images to similar features.
EARLY = 100


def evenly_spaced_cells(maps: list[Tensor], count: int) -> Tensor:
    """Take cells of feature maps, evenly spaced, as rows.

    Args:
        maps (list[Tensor]): Features, each of shape (B, D, h, w).
        count (int): Number of rows, at most.

    Returns:
        Tensor: Shape (min(count, N), D), where N is the number of cells of
        all maps.
    """
    cells = torch.cat([m.permute(0, 2, 3, 1).flatten(0, 2) for m in maps])
    taken = torch.arange(min(count, len(cells)), device=cells.device)
    return cells[taken * len(cells) // len(taken)]


@HOOKS.register_module()
class MonitorHook(Hook):
    """Log ``model.monitors`` and the effective rank; warn of collapse once.

    The model keeps its monitors as tensors on its device; they are read (a
    host sync) only when a line is logged.

    The effective rank (Garrido et al., RankMe, ICML 2023) is that of the
    features that enter ``model.neck``, of at most 512 cells of this
    process's batch. It is computed only in logged iterations, and for models
    without monitors too.
    """

    # Before LoggerHook (BELOW_NORMAL) reads the message hub, and after the
    # key encoder's update (NORMAL) has set its momentum.
    priority = 55

    def __init__(self):
        self._low = 0
        self._maps: list[Tensor] = []
        self._listener: Any = None

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        """Listen to the neck's inputs in a logging iteration."""
        neck = getattr(unwrap(runner.model), 'neck', None)
        if neck is not None and is_logging_iteration(runner, batch_idx):
            self._listener = neck.register_forward_pre_hook(self._keep)

    def _keep(self, neck, inputs) -> None:
        features = inputs[0]
        if isinstance(features, list | tuple):
            features = features[-1]
        if isinstance(features, Tensor) and features.ndim == 4:
            self._maps.append(features.detach())

    def after_train_iter(
        self, runner, batch_idx, data_batch=None, outputs=None
    ) -> None:
        """Put the monitors of a logging iteration into the message hub."""
        if not is_logging_iteration(runner, batch_idx):
            return
        if self._listener is not None:
            self._listener.remove()
            self._listener = None
        if self._maps:
            cells = evenly_spaced_cells(self._maps, RANK_CELLS)
            self._maps.clear()
            runner.message_hub.update_scalar(
                'train/mon_effective_rank', effective_rank(cells)
            )
        monitors = getattr(unwrap(runner.model), 'monitors', None)
        if not monitors:
            return
        for name, value in monitors.items():
            runner.message_hub.update_scalar(f'train/mon_{name}', value)
        if self._low == PATIENCE or runner.iter < EARLY:
            return  # too early for a warning, or it has been given
        feature_std = float(monitors['feature_std'])
        self._low = self._low + 1 if feature_std < COLLAPSE else 0
        if self._low == PATIENCE:
            runner.logger.warning(
                'Features have collapsed: mon_feature_std is '
                f'{feature_std:.3f} (1 is healthy, below '
                f'{COLLAPSE} all images look alike). Lower the '
                'learning rate, lengthen the warm-up, or check that the '
                'images differ.'
            )
