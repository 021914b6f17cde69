"""Precise batch norm: exact statistics for the weights that are tested."""

import time
from pathlib import Path

import torch
from mmengine.dist import all_reduce, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import IterBasedTrainLoop, Runner
from torch import nn

from pixcon_mm.engine.model_state import ema_hook, unwrap
from pixcon_mm.errors import UserError

PAUSE = 10.0  # seconds between two lines about the progress
# Name of the message hub's entry for the iteration that this hook has saved.
SAVED = 'saved_before_precise_bn'


@HOOKS.register_module()
class PreciseBatchNormHook(Hook):
    """Estimate the statistics of all BN layers after the last iteration.

    A running average mixes in statistics of earlier weights. Here training
    batches go through the final weights, as in training (a detector samples
    the same kind of regions), and each layer gets the mean and the variance
    over all of them (docs/method.md, section 10.1). Protocol of detectron2
    (``TEST.PRECISE_BN``); Wu and Johnson, Rethinking "Batch" in BatchNorm,
    section 3. For loops that count iterations.

    A checkpoint is saved before the last iteration and removed after the
    run: a run that is killed meanwhile repeats only the last iteration and
    the estimation.

    Args:
        num_batches (int): Batches of each process, but at most a tenth of
            the run's iterations, so that a trial stays short.
    """

    # Before the checkpoint is saved, and before the evaluation.
    priority = 'ABOVE_NORMAL'

    def __init__(self, num_batches: int = 200):
        self.num_batches = num_batches
        self._saved: Path | None = None

    def before_train(self, runner: Runner) -> None:
        """Stop if the loop has no endless stream of batches, or with EMA."""
        if ema_hook(runner):
            raise UserError(
                'PreciseBatchNormHook estimates statistics for the trained '
                'weights, and EMAHook tests and saves their average: leave '
                'out one of them (custom_hooks).'
            )
        if not isinstance(runner.train_loop, IterBasedTrainLoop):
            raise UserError(
                'PreciseBatchNormHook is for runs that count iterations, and '
                'this one counts epochs: leave it out (custom_hooks=[]), or '
                'train with an IterBasedTrainLoop.'
            )

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None
    ) -> None:
        """Save before the last iteration, unless that was done."""
        done = runner.iter
        # Gradients that are being accumulated are not saved.
        can_save = runner.optim_wrapper.should_update()
        if not 0 < done == runner.max_iters - 1 or not can_save:
            return
        file = Path(runner.work_dir, f'iter_{done}.pth')
        if not file.is_file():
            runner.message_hub.update_info(SAVED, done)
            runner.save_checkpoint(
                runner.work_dir,
                file.name,
                meta=dict(epoch=runner.epoch, iter=done),
            )
        # A regular checkpoint stays; this hook's own may be what was resumed.
        if runner.message_hub.get_info(SAVED) == done:
            self._saved = file

    def after_train(self, runner: Runner) -> None:
        """Remove what a complete final checkpoint replaces."""
        final = Path(runner.work_dir, f'iter_{runner.max_iters}.pth')
        if self._saved and final.is_file() and is_main_process():
            self._saved.unlink(missing_ok=True)

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
        if not layers:
            return
        count = min(self.num_batches, max(runner.max_iters // 10, 1))
        runner.logger.info(
            f'Precise BN: statistics of {len(layers)} layers from '
            f'{count} training batches'
        )
        momenta = [layer.momentum for layer in layers]
        for layer in layers:
            layer.momentum = 1.0  # its statistics become the batch's
        sums, shown = 0.0, time.monotonic()
        for index in range(count):
            # The loop's own iterator: MMDetection's batch sampler allows only
            # one.
            batch = next(runner.train_loop.dataloader_iterator)
            with torch.no_grad(), runner.optim_wrapper.optim_context(model):
                batch = model.data_preprocessor(batch, training=True)
                model(**batch, mode='loss')
            # First and second moments: (2, N), N channels of all layers.
            mean = torch.cat([layer.running_mean for layer in layers]).double()
            var = torch.cat([layer.running_var for layer in layers]).double()
            sums = sums + torch.stack([mean, var + mean**2])
            if time.monotonic() - shown > PAUSE:
                shown = time.monotonic()
                runner.logger.info(f'Precise BN: batch {index + 1}/{count}')
        moments = sums / count
        all_reduce(moments, 'mean')
        mean, square = moments
        variance = (square - mean**2).clamp(min=0)
        sizes = [layer.num_features for layer in layers]
        means, variances = mean.split(sizes), variance.split(sizes)
        for layer, momentum, m, v in zip(
            layers, momenta, means, variances, strict=True
        ):
            layer.momentum = momentum
            layer.running_mean.copy_(m)
            layer.running_var.copy_(v)
