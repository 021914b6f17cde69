"""Data of a run that can resume anywhere: seeded samples, skipped batches.

The random numbers of a sample are a function of the seed, the sample, and its
place in the run. They do not depend on the worker that loads it, or on what
the worker has loaded before, so no state of generators has to be saved.
"""

import random
from collections import Counter
from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop
from torch.utils.data import BatchSampler, Dataset

KeyedBatch = list[tuple[int, tuple[int, ...]]]


@LOOPS.register_module()
class ResumableEpochLoop(EpochBasedTrainLoop):
    """EpochBasedTrainLoop that resumes in the middle of an epoch.

    MMEngine's would start that epoch again. ``ReproducibleResumeHook`` leaves
    out the batches that the epoch has already seen; here they are counted.
    Takes EpochBasedTrainLoop's arguments.

    Workers that persist load the first batches of the next epoch while the
    current one ends. Otherwise each epoch would begin with waiting for them.
    """

    # The loader's iterator, and its number among those of KeyedBatches.
    _iterator: Iterator | None = None
    _start = 0

    @property
    def done_in_epoch(self) -> int:
        """Iterations of the current epoch that are done."""
        return self._iter - self._epoch * len(self.dataloader)

    def run_epoch(self) -> None:
        """Run the rest of the epoch."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        first = self.done_in_epoch
        left = islice(self.batches(), len(self.dataloader) - first)
        for index, batch in enumerate(left, first):
            self.run_iter(index, batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def batches(self) -> Iterator:
        """Return an iterator over what is left of this epoch.

        If the workers persist, one iterator covers this epoch and all later
        ones. It is replaced if a hook has used the loader in between, or has
        made it start other workers.
        """
        loader, keyed = self.dataloader, self.dataloader.batch_sampler
        if not (loader.persistent_workers and isinstance(keyed, KeyedBatches)):
            return iter(loader)
        is_running = self._iterator is not None and (
            loader._iterator is self._iterator and keyed.starts == self._start
        )
        if not is_running:
            keyed.end = self.max_epochs
            self._iterator = iter(loader)
            keyed.end, self._start = None, keyed.starts
        return self._iterator


class KeyedBatches(BatchSampler):
    """Batch sampler that gives each index a key for its random numbers.

    In an epoch the key is the epoch, the index, and how often the index has
    come before in it, because samplers repeat some indices to give all
    processes equally many. In an endless stream it is the place in the common
    stream of all processes. A batch sampler that orders samples itself, as
    MMDetection's does by aspect ratio, has one stream per process.

    Args:
        batches (BatchSampler): Batches of indices.
        rank (int): This process.
        world_size (int): Number of processes.
        is_endless (bool): Whether the batches never end.

    Attributes:
        epoch (int): First epoch of an iterator that starts now.
        end (int, optional): Epoch before which it ends; None for one epoch.
        starts (int): Number of iterators that have started so far.
        first (int): Number, in an endless stream, of the first batch to load.
        skipped (int): Batches to leave out at the start.
    """

    def __init__(
        self,
        batches: BatchSampler,
        rank: int = 0,
        world_size: int = 1,
        is_endless: bool = False,
    ):
        super().__init__(batches.sampler, batches.batch_size, False)
        self.batches, self.is_endless = batches, is_endless
        self.rank, self.world_size = rank, world_size
        self.epoch = self.first = self.skipped = self.starts = 0
        self.end: int | None = None

    def skip(self, num_batches: int) -> None:
        """Leave out batches at the start; nothing is loaded for them."""
        self.skipped = num_batches

    def __iter__(self) -> Iterator[KeyedBatch]:
        self.starts += 1
        first = self.epoch
        end = first + 1 if self.end is None else self.end
        for epoch in range(first, end):
            if epoch > first and hasattr(self.sampler, 'set_epoch'):
                self.sampler.set_epoch(epoch)
            for count, batch in enumerate(self._keyed(epoch)):
                if epoch > first or count >= self.skipped:
                    yield batch

    def _keyed(self, epoch: int) -> Iterator[KeyedBatch]:
        """Iterate over all batches of an epoch, or of an endless stream."""
        is_plain = type(self.batches) is BatchSampler
        visits: Counter[int] = Counter()
        for count, batch in enumerate(self.batches):
            number = self.first - self.skipped + count
            keyed = []
            for place, index in enumerate(batch):
                key = (epoch, index, visits[index])
                if self.is_endless:
                    place_of_all = number * self.batch_size + place
                    place_of_all = place_of_all * self.world_size + self.rank
                    key = (
                        (0, place_of_all, 0)
                        if is_plain
                        else (1 + self.rank, number, place)
                    )
                visits[index] += 1
                keyed.append((index, key))
            yield keyed

    def __len__(self) -> int:
        return len(self.batches)


class SeededLoading:
    """Loader of the samples of a batch, each with its own random numbers.

    An object of this class becomes the ``__getitems__`` of a dataset, which
    PyTorch's loader calls with the batches of the batch sampler.

    Args:
        dataset (Dataset): Source of the samples.
        seed (int): Seed of the run.
    """

    def __init__(self, dataset: Dataset, seed: int):
        self.dataset, self.seed = dataset, seed

    def __call__(self, batch: KeyedBatch) -> list:
        """Load a batch of indices with their keys."""
        samples = []
        for index, key in batch:
            seed_generators(self.seed, *key)
            samples.append(self.dataset[index])
        return samples


def seed_generators(*key: int, cuda: bool = False) -> None:
    """Seed Python, NumPy and PyTorch from a key.

    Args:
        *key (int): Integers. Different keys of the same length give
            independent streams.
        cuda (bool): Seed the generators of all GPUs too. Workers of a loader
            must not touch them.
    """
    state = np.random.SeedSequence([abs(k) for k in key]).generate_state(4)
    random.seed(int(state[0]))
    np.random.seed(state[1:3])
    # torch.manual_seed would always seed the GPUs.
    torch.default_generator.manual_seed(int(state[3]))
    if cuda and torch.cuda.is_available():
        torch.cuda.manual_seed_all(int(state[3]))
