"""Says at the start what this run is, and whether it is the recipe."""

from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from pixcon_mm.errors import UserError


@HOOKS.register_module()
class RunSummaryHook(Hook):
    """One line about batch, rate and length; one warning if off-recipe."""

    # After LR schedulers and resuming have set the rate.
    priority = 'VERY_LOW'

    def before_train(self, runner) -> None:
        """Check and report the total batch."""
        loader = runner.train_dataloader
        if len(loader) == 0:
            raise UserError(
                f'The training set has {len(loader.dataset)} images, fewer '
                f'than a batch of {loader.batch_size} on each of '
                f'{runner.world_size} processes: lower '
                'train_dataloader.batch_size or add images.'
            )
        steps = runner.optim_wrapper._accumulative_counts
        total = loader.batch_size * runner.world_size * steps
        rate = runner.optim_wrapper.get_lr()['lr'][0]
        base_rate = runner.optim_wrapper.optimizer.defaults['lr']
        if getattr(runner, '_resume', False) and runner.iter:
            runner.logger.info(
                f'resumed epoch {runner.epoch}, iter {runner.iter}, '
                f'lr {rate:.6g}'
            )
        runner.logger.info(
            f'{len(loader.dataset)} images, {len(loader)} iterations an '
            f'epoch, {runner.max_iters} in all; total batch {total} = '
            f'{runner.world_size} process(es) x {loader.batch_size} images '
            f'x {steps} batch(es) a step; logs in {runner.work_dir}'
        )
        auto_scale_lr = runner.cfg.get('auto_scale_lr') or {}
        recipe = auto_scale_lr.get('base_batch_size')
        if recipe in (None, total):
            return
        if auto_scale_lr.get('enable'):
            runner.logger.info(
                f'The recipe has a total batch of {recipe}: the learning '
                f'rate is scaled by {total / recipe:g}.'
            )
            return
        runner.logger.warning(
            f"The total batch is {total}, the recipe's is {recipe}; the "
            f'learning rate stays at {base_rate:g}. Use --total-batch '
            f'{recipe} to keep the recipe, or --auto-scale-lr for a rate of '
            f'{base_rate * total / recipe:g}.'
        )
