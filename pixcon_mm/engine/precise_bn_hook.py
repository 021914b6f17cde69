"""Precise batch norm: exact statistics for the weights that are tested."""

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor, nn

from pixcon_mm.engine.unwrap import unwrap

BATCH_NORMS = nn.modules.batchnorm._BatchNorm


@HOOKS.register_module()
class PreciseBatchNormHook(Hook):
    """Estimate the statistics of all BN layers after the last iteration.

    A running average mixes in statistics of earlier weights. Here training
    batches go through the final weights, as in training (a detector samples
    the same kind of regions), and each layer gets the mean and the variance
    over all of them. Protocol of detectron2 (``TEST.PRECISE_BN``); Wu and
    Johnson, Rethinking "Batch" in BatchNorm, section 3. For loops that count
    iterations.

    Args:
        num_batches (int): Batches of each process.
    """

    # Before the checkpoint is saved, and before the evaluation.
    priority = 'ABOVE_NORMAL'

    def __init__(self, num_batches: int = 200):
        self.num_batches = num_batches

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs=None
    ) -> None:
        """Run at the end of the training."""
        if runner.iter + 1 != runner.max_iters:
            return
        model = unwrap(runner.model)
        layers = [
            layer
            for layer in model.modules()
            if isinstance(layer, BATCH_NORMS)
            and layer.training
            and layer.track_running_stats
        ]
        runner.logger.info(
            f'Precise BN: statistics of {len(layers)} layers from '
            f'{self.num_batches} training batches'
        )
        momenta = [layer.momentum for layer in layers]
        for layer in layers:
            layer.momentum = 1.0  # its statistics become the batch's
        sums = 0.0
        for _ in range(self.num_batches):
            # Not a new iterator: MMDetection's batch sampler allows but one.
            batch = next(runner.train_loop.dataloader_iterator)
            with torch.no_grad(), runner.optim_wrapper.optim_context(model):
                batch = model.data_preprocessor(batch, training=True)
                model(**batch, mode='loss')
            sums = sums + batch_moments(layers)
        moments = sums / self.num_batches
        all_reduce(moments, 'mean')
        set_statistics(layers, moments)
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum


def batch_moments(layers: list[nn.Module]) -> Tensor:
    """First and second moments of the last batch.

    Args:
        layers (list[nn.Module]): BN layers of momentum 1, N channels in all.

    Returns:
        Tensor: float64, shape (2, N).
    """
    mean = torch.cat([layer.running_mean for layer in layers]).double()
    var = torch.cat([layer.running_var for layer in layers]).double()
    return torch.stack([mean, var + mean**2])


def set_statistics(layers: list[nn.Module], moments: Tensor) -> None:
    """Set mean and variance of all layers from their moments (2, N)."""
    mean, square = moments
    sizes = [layer.num_features for layer in layers]
    variance = (square - mean**2).clamp(min=0)
    for layer, m, v in zip(
        layers, mean.split(sizes), variance.split(sizes), strict=True
    ):
        layer.running_mean.copy_(m)
        layer.running_var.copy_(v)
