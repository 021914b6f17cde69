"""A run that is killed and resumed ends where an unbroken one does."""

import torch
from mmengine.dataset import InfiniteSampler
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import IterBasedTrainLoop, Runner

from pixcon_mm.engine.loops import ResumableEpochLoop
from pixcon_mm.engine.seeded_loading import (
    KeyedBatches,
    SeededLoading,
    key_batches,
    seed_cpu,
)


@HOOKS.register_module()
class ReproducibleResumeHook(Hook):
    """Make all random numbers a function of seed and place in the run.

    Each sample of the loader (augmentation) and each step of the model
    (samplers of regions, dropout, drop path) starts generators of its own,
    so a run that resumes draws what an unbroken one draws, and there is no
    state to save. Where the kernels are deterministic, the weights are the
    same, bit for bit. Batches that the run has seen are not loaded again,
    whatever the batch sampler, also in the middle of an epoch.

    The seed is the checkpoint's, also if the config has none or another. For
    loops over epochs, and for loops over iterations with MMEngine's
    ``InfiniteSampler``; with ``fast_forward_on_resume=True`` of those, images
    may come again. Other loops draw as they do without this hook.
    """

    # Before any other hook draws.
    priority = 'VERY_HIGH'

    def __init__(self):
        self._batches: KeyedBatches | None = None
        self._seed_before: int | None = None

    def before_run(self, runner: Runner) -> None:
        """Note the seed that the sampler was built with."""
        self._seed_before = runner.seed

    def before_train(self, runner: Runner) -> None:
        """Key the samples by their place in the run."""
        loop = runner.train_loop
        endless = is_endless(loop)
        batches = getattr(loop.dataloader, 'batch_sampler', None)
        if not (endless or isinstance(loop, ResumableEpochLoop)) or not (
            hasattr(batches, 'sampler')
        ):
            return
        if getattr(batches.sampler, 'seed', None) == self._seed_before:
            # Built before the checkpoint was read, which has the seed.
            batches.sampler.seed = runner.seed
        self._batches = KeyedBatches(
            batches, runner.rank, runner.world_size, endless
        )
        key_batches(loop.dataloader, self._batches)
        loop.dataloader.dataset.__getitems__ = SeededLoading(
            loop.dataloader.dataset, runner.seed
        )
        if endless:
            # Old versions of MMEngine have started it, with other keys.
            loop.dataloader._iterator = None
            iterator = type(loop.dataloader_iterator)(loop.dataloader)
            loop.dataloader_iterator = iterator
            if hasattr(iterator, 'skip_iter'):
                self._batches.first = loop.iter
                # MMEngine's would load what it skips, or skip by the sampler
                # alone. Old versions load it.
                iterator.skip_iter = self._batches.skip

    def before_train_epoch(self, runner: Runner) -> None:
        """Choose the samples of this epoch, as far as they are to come."""
        if self._batches is not None and not self._batches.is_endless:
            self._batches.start_epoch(
                runner.epoch, runner.train_loop.done_in_epoch
            )

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None
    ) -> None:
        """Seed the step."""
        if self._batches is not None:
            seed_step(runner.seed, runner.rank, runner.iter)


def is_endless(loop) -> bool:
    """Check for a training loop that takes batches from an endless sampler."""
    if not isinstance(loop, IterBasedTrainLoop):
        return False
    # None if the dataset makes its batches itself.
    batch_sampler = loop.dataloader.batch_sampler
    return isinstance(getattr(batch_sampler, 'sampler', None), InfiniteSampler)


def seed_step(*key: int) -> None:
    """Seed Python, NumPy and PyTorch (all devices) from a key.

    Args:
        key (int): Words, none negative.
    """
    seed_cpu(*key)
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(torch.initial_seed())
