"""Regular checkpoints; at least one of them is complete at any time."""

from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from pixcon_mm.checkpoint.run_checkpoint import list_checkpoints
from pixcon_mm.errors import UserError
from pixcon_mm.wording import listed


@HOOKS.register_module()
class WholeCheckpointHook(CheckpointHook):
    """CheckpointHook that removes old files after the new one is complete.

    MMEngine's removes them before. A checkpoint that is due between two steps
    of the optimiser, while gradients are being accumulated, is taken right
    after the next step: gradients are not saved. Takes CheckpointHook's
    arguments.
    """

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        names = ('epoch_{}.pth', 'iter_{}.pth')
        if self.out_dir is not None or self.filename_tmpl not in names:
            raise UserError(
                'A checkpoint hook has out_dir or filename_tmpl, which are '
                'not supported, because --resume looks for epoch_N.pth and '
                'iter_N.pth in the work directory. Use --work-dir.'
            )
        # MMEngine would remove old files before the new one is complete.
        self.num_kept, self.max_keep_ckpts = self.max_keep_ckpts, -1
        self._is_due = False
        self._kept: list[int] = []  # numbers of its files, the oldest first
        self._spared: list[str] = []  # names of files that always stay

    def before_train(self, runner: Runner) -> None:
        """Continue with the files that the resumed run kept."""
        self._forget_lost_best(runner)
        super().before_train(runner)
        hub = runner.message_hub  # saved in every checkpoint
        # Another hook may count in the other unit.
        unit = 'epoch' if self.by_epoch else 'iter'
        self._kept_key = f'kept_{unit}_checkpoints'
        spared_key = f'spared_{unit}_checkpoints'
        if self.num_kept <= 0:
            hub.pop_info(self._kept_key)
            return
        if self._kept_key not in hub.runtime_info:
            # A new run, or one that has kept all files until now.
            files = list_checkpoints(Path(self.out_dir))
            hub.update_info(spared_key, [path.name for path in files])
        self._spared = hub.get_info(spared_key, [])
        self._kept = [*hub.get_info(self._kept_key, ())]
        hub.update_info(self._kept_key, self._kept)

    def _forget_lost_best(self, runner: Runner) -> None:
        """Forget a best checkpoint that is not in the work directory.

        A run that is resumed from an earlier file may have replaced it since.
        """
        hub = runner.message_hub
        for key in [*hub.runtime_info]:
            file = hub.get_info(key) if key.startswith('best_ckpt') else None
            # By its name, as the work directory may have been moved.
            if file and not Path(runner.work_dir, Path(file).name).is_file():
                hub.pop_info(key)
                score = hub.pop_info(key.replace('ckpt', 'score', 1))
                runner.logger.warning(
                    f'The best checkpoint until then, {Path(file).name} '
                    f'with {score}, is not in {runner.work_dir} any more: '
                    'the next one that is validated takes its place.'
                )

    def after_train(self, runner: Runner) -> None:
        """Save the last state of a run that a hook has ended early."""
        if (
            self.save_last
            and runner.iter < runner.max_iters
            and getattr(runner, 'saved_iter', None) != runner.iter
            and runner.optim_wrapper.should_update()
        ):
            step = runner.epoch if self.by_epoch else runner.iter
            done = dict(epoch=runner.epoch, iter=runner.iter)
            self._save_checkpoint_with_step(runner, step, done)
        super().after_train(runner)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs=None
    ) -> None:
        """Save if a checkpoint is due, now or since the last step."""
        if self._is_due:
            step = runner.epoch if self.by_epoch else runner.iter + 1
            done = dict(epoch=runner.epoch, iter=runner.iter + 1)
            self._save_checkpoint_with_step(runner, step, done)
        else:
            super().after_train_iter(runner, batch_idx, data_batch, outputs)

    def _save_checkpoint_with_step(
        self, runner: Runner, step: int, meta: dict
    ) -> None:
        self._is_due = not runner.optim_wrapper.should_update()
        if self._is_due:
            # MMEngine has just written that it saves.
            runner.logger.info(
                'The checkpoint follows after the next step of the optimizer, '
                'because accumulated gradients are not saved.'
            )
            return
        if self.num_kept <= 0:
            super()._save_checkpoint_with_step(runner, step, meta)
            return
        before = self._kept
        self._kept = [*(n for n in before if n < step), step][-self.num_kept :]
        runner.message_hub.update_info(self._kept_key, self._kept)
        super()._save_checkpoint_with_step(runner, step, meta)
        if is_main_process():
            self._remove_others(runner, {*before} - {*self._kept})

    def _remove_others(self, runner: Runner, dropped: set[int]) -> None:
        """Remove old files, including those of stopped and killed runs.

        If there are several checkpoint hooks, only the files of this one are
        removed: another hook may keep the others.
        """
        old = {self.filename_tmpl.format(number) for number in dropped}
        kept = {self.filename_tmpl.format(number) for number in self._kept}
        kept |= {*self._spared}
        hooks = [h for h in runner.hooks if isinstance(h, CheckpointHook)]
        for path in list_checkpoints(Path(self.out_dir)):
            if path.name in old or (len(hooks) == 1 and path.name not in kept):
                path.unlink()

    def keep_best(self, runner: Runner, metrics: dict[str, float]) -> None:
        """Keep a checkpoint of the epoch that ends if it is the best so far.

        Args:
            runner (Runner): The runner, at the end of a training epoch.
            metrics (dict[str, float]): Scores of the epoch by name. Nothing
                happens unless they include those that ``save_best`` names.
        """
        if not {*self.key_indicators} <= {*metrics}:
            return
        # MMEngine validates after it has counted the epoch.
        runner.train_loop._epoch += 1
        try:
            self._save_best_checkpoint(runner, metrics)
        finally:
            runner.train_loop._epoch -= 1

    def _save_best_checkpoint(self, runner: Runner, metrics: dict) -> None:
        """Save a new best checkpoint, then remove the previous one.

        MMEngine would remove the previous one first. In a copied work
        directory it would remove the file in the original directory, because
        the checkpoint stores that path.
        """
        for name in self.key_indicators if self.save_best else ():
            if name not in (*metrics, 'auto'):
                raise UserError(
                    f'A checkpoint hook has save_best={name!r}, but the '
                    f'validation measures {listed([*metrics])}: name one of '
                    'these.'
                )
        old = {*Path(self.out_dir).glob('best_*.pth')}
        self.best_ckpt_path = None
        for key in getattr(self, 'best_ckpt_path_dict', {}):
            self.best_ckpt_path_dict[key] = None
        super()._save_best_checkpoint(runner, metrics)
        if not is_main_process():
            return
        new = {*Path(self.out_dir).glob('best_*.pth')} - old
        kinds = {path.name.rpartition('_')[0] for path in new}
        for path in old:
            if path.name.rpartition('_')[0] in kinds:
                path.unlink()
