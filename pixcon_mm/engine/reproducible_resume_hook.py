"""A fine-tuning that is killed and resumed ends where an unbroken one does."""

import random
from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
from mmengine.dataset import InfiniteSampler
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import IterBasedTrainLoop, Runner
from torch.utils.data import BatchSampler, DataLoader, Dataset

# The last word of a key: what a model draws is not what its batch drew.
STEP, BATCH = 0, 1


@HOOKS.register_module()
class ReproducibleResumeHook(Hook):
    """Make all random numbers a function of seed, process and iteration.

    Each step of the model (samplers of regions, dropout) and each batch of
    the loader (augmentation) starts generators of its own, so a run that
    resumes draws what an unbroken one draws, and there is no state to save.
    Where the kernels are deterministic, the weights are the same, bit for
    bit. Batches that the run has seen are not loaded again, whatever the
    batch sampler; with ``fast_forward_on_resume=True`` of the loop, their
    images may come again.

    The seed is the checkpoint's, also if the config has none or another. For
    loops that count iterations over MMEngine's ``InfiniteSampler``; runs of
    another kind are left alone, so that one runtime config serves all.
    """

    # Before any other hook draws.
    priority = 'VERY_HIGH'

    def __init__(self):
        self._is_active = False
        self._seed_before: int | None = None

    def before_run(self, runner: Runner) -> None:
        """Note the seed that the sampler was built with."""
        self._seed_before = runner.seed

    def before_train(self, runner: Runner) -> None:
        """Number the batches, and seed the loading of each."""
        loop = runner.train_loop
        self._is_active = is_endless(loop)
        if not self._is_active:
            return
        if getattr(loop.dataloader_iterator, '_iterator', None) is not None:
            self._is_active = False
            runner.logger.warning(
                'The loader runs already, as in old versions of MMEngine: a '
                'resumed run will not end with the weights of an unbroken one.'
            )
            return
        sampler = loop.dataloader.batch_sampler.sampler
        if sampler.seed == self._seed_before:
            # Built before the checkpoint was read, which has the seed.
            sampler.seed = runner.seed
        batches = number_batches(loop.dataloader, loop.iter)
        # MMEngine's would load what it skips, or skip by the sampler alone.
        loop.dataloader_iterator.skip_iter = batches.skip
        loop.dataloader.dataset.__getitems__ = SeededLoading(
            loop.dataloader.dataset, runner.seed, runner.rank
        )

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None
    ) -> None:
        """Seed the step."""
        if self._is_active:
            seed_generators(runner.seed, runner.rank, runner.iter, STEP)


def is_endless(loop) -> bool:
    """Whether a training loop takes batches from a sampler without end."""
    if not isinstance(loop, IterBasedTrainLoop):
        return False
    # None if the dataset makes its batches itself.
    batch_sampler = loop.dataloader.batch_sampler
    return isinstance(getattr(batch_sampler, 'sampler', None), InfiniteSampler)


def seed_generators(*key: int) -> None:
    """Seed Python, NumPy and PyTorch (all devices) from a key.

    Args:
        key (int): Words, none negative. Keys of the same length that differ
            give streams that have nothing in common.
    """
    words = np.random.SeedSequence(key).generate_state(3, np.uint64)
    # From equal words, Python and NumPy would draw equal numbers.
    random.seed(int(words[0]))
    np.random.seed(words[1:2].view(np.uint32))
    torch.manual_seed(int(words[2]))


class NumberedBatches(BatchSampler):
    """A batch sampler whose batches know their numbers.

    A worker can then tell which batch of the run it loads, whichever worker
    it is and however many there are.

    Args:
        batches (BatchSampler): The batch sampler, without end.
        first (int): Number of its first batch, if none is skipped.
    """

    def __init__(self, batches: BatchSampler, first: int):
        super().__init__(batches.sampler, batches.batch_size, False)
        self.batches, self.first, self.skipped = batches, first, 0

    def skip(self, num_batches: int) -> None:
        """Leave out batches at the start; nothing is loaded for them."""
        self.skipped = num_batches

    def __iter__(self) -> Iterator[tuple[int, list[int]]]:
        batches = islice(iter(self.batches), self.skipped, None)
        return enumerate(batches, self.first)

    def __len__(self) -> int:
        return len(self.batches)


def number_batches(loader: DataLoader, first: int) -> NumberedBatches:
    """Let a loader, not yet running, ask for numbered batches."""
    batches = loader.batch_sampler
    if isinstance(batches, NumberedBatches):
        batches = batches.batches  # of an earlier run
    numbered = NumberedBatches(batches, first)
    # DataLoader refuses a new one, lest its batch_size be wrong: it is not.
    object.__setattr__(loader, 'batch_sampler', numbered)
    return numbered


class SeededLoading:
    """Loads batches, each with random numbers of its own.

    To be the ``__getitems__`` of a dataset: PyTorch's loader calls it, in a
    worker or not, with what the batch sampler gives.

    Args:
        dataset (Dataset): Where samples come from.
        seed (int): Seed of the run.
        rank (int): Process of the run.
    """

    def __init__(self, dataset: Dataset, seed: int, rank: int):
        self.dataset, self.seed, self.rank = dataset, seed, rank

    def __call__(self, batch: tuple[int, list[int]]) -> list:
        """Load a batch (number, indices)."""
        number, indices = batch
        seed_generators(self.seed, self.rank, number, BATCH)
        return [self.dataset[index] for index in indices]
