"""Random numbers that make a resumed run equal to an unbroken one."""

from mmengine.dataset import InfiniteSampler
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import IterBasedTrainLoop, Runner

from pixcon_mm.engine.seeded_loading import (
    KeyedBatches,
    ResumableEpochLoop,
    SeededLoading,
    seed_generators,
)


@HOOKS.register_module()
class ReproducibleResumeHook(Hook):
    """Make all random numbers a function of the seed and the place in the run.

    The generators are seeded before each sample of the loader (augmentation)
    and before each step of the model (samplers of regions, dropout, drop
    path). So a run that resumes gets the random numbers of an unbroken one,
    and there is no state to save. If the kernels are deterministic, the
    weights are the same, bit for bit. Batches that the run has seen are not
    loaded again, whatever the batch sampler, even in the middle of an epoch.

    A resumed run keeps the checkpoint's seed, even if the config has none or
    another one. This works for loops over epochs, and for loops over
    iterations with MMEngine's ``InfiniteSampler``; if such a loop has
    ``fast_forward_on_resume=True``, images may be repeated. Other loops are
    left as they are.
    """

    # Before any other hook uses random numbers.
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
        loader = loop.dataloader
        # None if the dataset makes its batches itself.
        batches = getattr(loader, 'batch_sampler', None)
        sampler = getattr(batches, 'sampler', None)
        is_endless = isinstance(loop, IterBasedTrainLoop) and isinstance(
            sampler, InfiniteSampler
        )
        if sampler is None or not (
            is_endless or isinstance(loop, ResumableEpochLoop)
        ):
            return
        if getattr(sampler, 'seed', None) == self._seed_before:
            # The sampler was built before the checkpoint's seed was known.
            sampler.seed = runner.seed
        self._batches = KeyedBatches(
            batches, runner.rank, runner.world_size, is_endless
        )
        # DataLoader refuses to set it, because its batch_size could be wrong.
        object.__setattr__(loader, 'batch_sampler', self._batches)
        loader.dataset.__getitems__ = SeededLoading(
            loader.dataset, runner.seed
        )
        if is_endless:
            # Old versions of MMEngine have already started the iterator and
            # taken samples: the sampler and its batches start again.
            sampler.indices = sampler._indices_of_rank()
            if hasattr(batches, '_aspect_ratio_buckets'):
                batches._aspect_ratio_buckets = [[], []]
            loader._iterator = None
            iterator = type(loop.dataloader_iterator)(loader)
            loop.dataloader_iterator = iterator
            if hasattr(iterator, 'skip_iter'):
                # MMEngine's own method would load the skipped samples, or
                # advance the sampler only. Versions without it load them.
                self._batches.first = loop.iter
                iterator.skip_iter = self._batches.skip

    def before_train_epoch(self, runner: Runner) -> None:
        """Leave out the samples that this epoch has seen."""
        if self._batches is not None and not self._batches.is_endless:
            self._batches.epoch = runner.epoch
            self._batches.skip(runner.train_loop.done_in_epoch)

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None
    ) -> None:
        """Seed the step."""
        if self._batches is not None:
            seed_generators(runner.seed, runner.rank, runner.iter, cuda=True)
