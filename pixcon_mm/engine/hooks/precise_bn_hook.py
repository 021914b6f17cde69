"""Precise batch norm: exact statistics for the weights that are tested."""

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

from pixcon_mm.engine.model_state import unwrap


@HOOKS.register_module()
class PreciseBatchNormHook(Hook):
    """Estimate the statistics of all BN layers after the last iteration.

    A running average mixes in statistics of earlier weights. Here training
    batches go through the final weights, as in training (a detector samples
    the same kind of regions), and each layer gets the mean and the variance
    over all of them (docs/method.md, section 10.1). Protocol of detectron2
    (``TEST.PRECISE_BN``); Wu and Johnson, Rethinking "Batch" in BatchNorm,
    section 3. For loops that count iterations.

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
            if isinstance(layer, nn.modules.batchnorm._BatchNorm)
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
            # First and second moments, (2, N) for N channels in all.
            mean = torch.cat([layer.running_mean for layer in layers]).double()
            var = torch.cat([layer.running_var for layer in layers]).double()
            sums = sums + torch.stack([mean, var + mean**2])
        moments = sums / self.num_batches
        all_reduce(moments, 'mean')
        mean, square = moments
        variance = (square - mean**2).clamp(min=0)
        sizes = [layer.num_features for layer in layers]
        for layer, momentum, m, v in zip(
            *(layers, momenta, mean.split(sizes), variance.split(sizes)),
            strict=True,
        ):
            layer.momentum = momentum
            layer.running_mean.copy_(m)
            layer.running_var.copy_(v)
