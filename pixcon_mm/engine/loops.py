"""A loop over epochs that continues in the middle of one."""

from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop


@LOOPS.register_module()
class ResumableEpochLoop(EpochBasedTrainLoop):
    """MMEngine's EpochBasedTrainLoop, which would repeat a broken-off epoch.

    ``ReproducibleResumeHook`` leaves out the batches that the epoch has
    already seen; here they are counted. Takes EpochBasedTrainLoop's
    arguments.
    """

    @property
    def done_in_epoch(self) -> int:
        """Iterations of the current epoch that are done."""
        return self._iter - self._epoch * len(self.dataloader)

    def run_epoch(self) -> None:
        """Run what is left of the epoch."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        for index, batch in enumerate(self.dataloader, self.done_in_epoch):
            self.run_iter(index, batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1
