"""Summary of a run at its start: batch, rate and length, and warnings."""

import math

from mmengine.hooks import Hook
from mmengine.model import BaseAveragedModel
from mmengine.optim.scheduler.param_scheduler import INF
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop

from pixcon_mm.engine.log_line import batch_size
from pixcon_mm.engine.model_state import unwrap
from pixcon_mm.engine.schedules import WarmupLR
from pixcon_mm.wording import counted


@HOOKS.register_module()
class RunSummaryHook(Hook):
    """Log one line about batch, rate and length; warn if not the recipe's."""

    # After LR schedulers and resuming have set the rate.
    priority = 'VERY_LOW'

    def before_train(self, runner) -> None:
        """Report the total batch; warn if data or batch do not fit."""
        info, warn = runner.logger.info, runner.logger.warning
        loader = runner.train_dataloader
        batch = batch_size(loader)
        steps = runner.optim_wrapper._accumulative_counts
        total = batch * runner.world_size * steps
        group = runner.optim_wrapper.param_groups[0]
        # Schedulers store the rate from which they start.
        base_rate = group.get('initial_lr', group['lr'])
        if getattr(runner, '_resume', False):
            if runner.iter:
                info(
                    f'resumed epoch {runner.epoch}, iter {runner.iter}, '
                    f'lr {group["lr"]:.6g}'
                )
            else:
                warn(
                    f'There is no checkpoint in {runner.work_dir} to resume: '
                    'the run starts from the beginning.'
                )
        if runner.iter >= runner.max_iters:
            warn(
                f'The run is complete: iteration {runner.iter} of '
                f'{runner.max_iters} is done. To evaluate it, use '
                'tools/test.py; to train longer, --epochs N or '
                'train_cfg.max_iters=N.'
            )
        images = len(loader.dataset)
        factors = [
            counted(runner.world_size, 'process'),
            counted(batch, 'image'),
        ]
        if steps > 1:
            factors.append(counted(steps, 'accumulated batch'))
        per_epoch = len(loader)
        if not isinstance(runner.train_loop, EpochBasedTrainLoop):
            # The length of an endless sampler ignores the other processes.
            per_epoch = math.ceil(images / (batch * runner.world_size))
            if steps > 1:
                info(
                    f'Iterations count batches, and a step of the optimiser '
                    f'takes {steps}. For as many steps as without '
                    f'accumulation, multiply train_cfg.max_iters and the ends '
                    f'and milestones of param_scheduler by {steps}.'
                )
        length = f'{runner.max_iters:,} in all'
        if steps > 1:
            updates = math.ceil(runner.max_iters / steps)
            length += f' with {counted(updates, "step")} of the optimiser'
        info(
            f'{counted(images, "image")}, '
            f'{counted(per_epoch, "iteration")} per epoch, {length}; '
            f'total batch {total} = {" x ".join(factors)}; '
            f'learning rate {base_rate:g}; logs in {runner.work_dir}'
        )
        model = unwrap(runner.model)
        if steps > 1 and not hasattr(model, 'after_optimizer_step'):
            averages = [
                name
                for name, module in model.named_modules()
                if isinstance(module, BaseAveragedModel)
            ]
            if averages:
                warn(
                    f'{type(model).__name__} updates its momentum encoder '
                    f'({averages[0]}) in every batch, not in every step of '
                    f'the optimiser: with {steps} accumulated batches it '
                    'follows the trained network faster than in the recipe. '
                    'PixCon, including its MoCo-v2+ recipes, updates it once '
                    'per step.'
                )
        queue_len = (runner.cfg.get('model') or {}).get('queue_len', 0)
        if queue_len > images:
            rows = max(images // 4, 1)
            # MMPretrain's MoCo and DenseCL need whole batches.
            keys = batch * runner.world_size
            rows -= rows % keys if rows > keys else 0
            warn(
                f'The queue has {queue_len:,} rows for '
                f'{counted(images, "image")}, so images are often their own '
                'negatives. Use at most a quarter as many rows, such as '
                f'model.queue_len={rows}.'
            )
        for index, scheduler in enumerate(runner.param_schedulers or []):
            run = runner.max_epochs if scheduler.by_epoch else runner.max_iters
            # WarmupLR adds an iteration to its end.
            ends = [scheduler.end - isinstance(scheduler, WarmupLR)]
            ends += getattr(scheduler, 'milestones', [])
            end = max((end for end in ends if end < INF), default=0)
            if run < end:
                unit = 'epochs' if scheduler.by_epoch else 'iterations'
                warn(
                    f'The run has {run} {unit}, but param_scheduler.{index} '
                    f'({type(scheduler).__name__}) is for {end}: '
                    'override its end, T_max and milestones together with '
                    'the length.'
                )
        auto_scale_lr = runner.cfg.get('auto_scale_lr') or {}
        recipe = auto_scale_lr.get('base_batch_size')
        if recipe in (None, total):
            return
        if auto_scale_lr.get('enable'):
            info(
                f'The recipe has a total batch of {recipe}: the learning '
                f'rate is scaled by {total / recipe:g}.'
            )
        else:
            warn(
                f"The total batch is {total}, the recipe's is {recipe}; the "
                f'learning rate stays at {base_rate:g}. Use --total-batch '
                f'{recipe} to keep the recipe, or --auto-scale-lr for a rate '
                f'of {base_rate * total / recipe:g}.'
            )
