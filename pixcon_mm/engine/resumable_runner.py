"""A runner that saves whole checkpoints and continues at any iteration."""

from pathlib import Path

from mmengine.dist import broadcast_object_list, master_only
from mmengine.runner import Runner

from pixcon_mm.engine.checkpointing import (
    find_start,
    gather_checkpoint,
    load_weights,
    restore_run,
    save_finite,
)
from pixcon_mm.engine.deferred_info_hook import DeferredRuntimeInfoHook
from pixcon_mm.engine.finite import unbounded_buffers
from pixcon_mm.engine.unwrap import unwrap


class ResumableRunner(Runner):
    """MMEngine's Runner with checkpoints that are whole, finite and safe.

    Checkpoints hold no code, and none that holds code is loaded. A run
    resumes at any iteration, as its config now asks.

    Attributes:
        saved_iter (int | None): Iterations done at the last checkpoint.
        unbounded (set[str]): Buffers that are not finite at the start, which
            is how they are meant to be.
    """

    def __init__(self, *args, **kwargs):
        self.saved_iter: int | None = None
        self.unbounded: set[str] = set()
        super().__init__(*args, **kwargs)

    @master_only
    def save_checkpoint(
        self,
        out_dir: str,
        filename: str,
        file_client_args: dict | None = None,
        save_optimizer: bool = True,
        save_param_scheduler: bool = True,
        meta: dict | None = None,
        by_epoch: bool = True,
        backend_args: dict | None = None,
    ) -> None:
        """Save a checkpoint, whole or not at all, on a local file system.

        Args:
            out_dir (str): Its folder.
            filename (str): Its name.
            file_client_args (dict, optional): Not used.
            save_optimizer (bool): Whether it can be resumed from.
            save_param_scheduler (bool): The same.
            meta (dict, optional): ``epoch`` and ``iter`` that are done.
            by_epoch (bool): Called at the end of an epoch, not of an
                iteration; used without ``meta``.
            backend_args (dict, optional): Not used.

        Raises:
            UserError: If a value in it is not finite. Nothing is written.
        """
        for hook in self.hooks:
            if isinstance(hook, DeferredRuntimeInfoHook):
                hook.read(self)
        done = (
            dict(epoch=self.epoch + 1, iter=self.iter)
            if by_epoch
            else dict(epoch=self.epoch, iter=self.iter + 1)
        )
        checkpoint = gather_checkpoint(
            self,
            {**done, **(meta or {})},
            save_optimizer,
            save_param_scheduler,
        )
        self.call_hook('before_save_checkpoint', checkpoint=checkpoint)
        save_finite(
            checkpoint,
            Path(out_dir) / filename,
            self.unbounded,
        )
        if save_optimizer:
            self.saved_iter = checkpoint['meta']['iter']

    def load_or_resume(self) -> None:
        """Resume, load whole weights, or do neither, as the config says."""
        if not self._has_loaded:
            self._load_start()
        self.unbounded = unbounded_buffers(unwrap(self.model))

    def _load_start(self) -> None:
        if self._resume:
            # All processes resume from what the first one has found.
            start = [None]
            if self.rank == 0:
                # 'auto' leaves load_from to a run that has to start.
                is_named = self._resume != 'auto'
                asked = self._load_from if is_named else None
                start = [find_start(self, asked)]
            broadcast_object_list(start)
            if start[0] is not None:
                self.resume(str(start[0]))
                return
        if self._load_from is not None:
            self.load_checkpoint(self._load_from)

    def resume(self, filename: str, *args, **kwargs) -> None:
        """Continue from a checkpoint, as the config now asks.

        Args:
            filename (str): A local file.

        Raises:
            UserError: If it is damaged, holds code, or is of another model.
        """
        restore_run(self, Path(filename))
        self._has_loaded = True

    def load_checkpoint(self, filename: str, *args, **kwargs) -> dict:
        """Fill the model from a file of weights, as far as they fit.

        Args:
            filename (str): A local file.

        Returns:
            dict: ``state_dict``, the tensors of the file.

        Raises:
            UserError: If it is damaged, holds code, or nothing fits.
        """
        checkpoint = load_weights(self, filename)
        self._has_loaded = True
        return checkpoint
