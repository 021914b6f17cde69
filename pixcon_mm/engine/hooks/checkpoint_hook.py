"""Checkpoints that can be resumed from, at any time at least one."""

from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from pixcon_mm.checkpoint.run_checkpoint import list_checkpoints
from pixcon_mm.errors import UserError


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
                'default_hooks.checkpoint: out_dir and filename_tmpl are not '
                'supported, because --resume looks for epoch_N.pth and '
                'iter_N.pth in the work directory. Use --work-dir.'
            )
        self._is_due = False

    def before_train(self, runner: Runner) -> None:
        """Prepare to remove files after others are written, not before."""
        super().before_train(runner)
        self.file_backend = RemoveLater(self.file_backend)
        # A folder that was copied or moved must not remove the original's.
        if getattr(self, 'best_ckpt_path', None):
            self.best_ckpt_path = self._here(self.best_ckpt_path)
        bests = getattr(self, 'best_ckpt_path_dict', {})
        bests.update({k: self._here(v) for k, v in bests.items() if v})

    def _here(self, path: str) -> str:
        return str(Path(self.out_dir) / Path(path).name)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs=None
    ) -> None:
        """Save if it is time to, or has been since the last step."""
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
            return
        super()._save_checkpoint_with_step(runner, step, meta)
        self.file_backend.remove_now()
        if self.max_keep_ckpts > 0 and is_main_process():
            self._remove_others(runner)

    def keep_best(self, runner: Runner, metrics: dict[str, float]) -> None:
        """Keep a checkpoint of the epoch that ends if it is the best so far.

        Args:
            runner (Runner): The runner, at the end of a training epoch.
            metrics (dict[str, float]): With what ``save_best`` names; without
                it, nothing happens.
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
        super()._save_best_checkpoint(runner, metrics)
        self.file_backend.remove_now()

    def _remove_others(self, runner: Runner) -> None:
        """Remove what a signal or a killed process has left."""
        if sum(isinstance(hook, CheckpointHook) for hook in runner.hooks) > 1:
            return  # they may be those of the other hook
        kept = {self.filename_tmpl.format(i) for i in self.keep_ckpt_ids}
        for path in list_checkpoints(Path(self.out_dir)):
            if path.name not in kept:
                path.unlink()


class RemoveLater:
    """File backend of MMEngine that removes files only on request.

    Args:
        backend: The file backend.
    """

    def __init__(self, backend):
        self._backend, self._paths = backend, []

    def __getattr__(self, name: str):
        return getattr(self._backend, name)

    def remove(self, path: str) -> None:
        """Note a file for removal."""
        self._paths.append(path)

    def remove_now(self) -> None:
        """Remove the files that were noted."""
        for path in self._paths:
            if self._backend.isfile(path):
                self._backend.remove(path)
        self._paths.clear()
