"""Random numbers of a sample as a function of what is loaded, and when.

Which worker loads a sample, and what it loaded before, does not matter, so a
run that resumes in the middle of its data gets the samples of an unbroken
one, and there is no state to save.
"""

import random
from collections import Counter
from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
from torch.utils.data import BatchSampler, DataLoader, Dataset

Key = tuple[int, ...]
KeyedBatch = list[tuple[int, Key]]


class KeyedBatches(BatchSampler):
    """A batch sampler that gives each index a key for its random numbers.

    Args:
        batches (BatchSampler): Batches of indices: one epoch of them, or
            without end.
        rank (int): This process.
        world_size (int): Number of processes.
        is_endless (bool): Whether they never end.
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
        self.epoch = self.first = self.skipped = 0

    def start_epoch(self, epoch: int, skipped: int) -> None:
        """Prepare for an epoch whose first batches are left out."""
        self.epoch, self.skipped = epoch, skipped

    def skip(self, num_batches: int) -> None:
        """Leave out batches at the start; nothing is loaded for them."""
        self.skipped = num_batches

    def __iter__(self) -> Iterator[KeyedBatch]:
        keyed = self._endless() if self.is_endless else self._epoch_batches()
        yield from keyed

    def __len__(self) -> int:
        return len(self.batches)

    def _epoch_batches(self) -> Iterator[KeyedBatch]:
        """Key samples by epoch, index, and how often the index came before.

        Samplers repeat indices to give all processes as many.
        """
        visits: Counter[int] = Counter()
        for number, batch in enumerate(self.batches):
            keyed = []
            for index in batch:
                keyed.append((index, (self.epoch, index, visits[index])))
                visits[index] += 1
            if number >= self.skipped:
                yield keyed

    def _endless(self) -> Iterator[KeyedBatch]:
        """Key samples by their place in the stream of all processes.

        A sampler that orders batches by itself, as MMDetection's by aspect
        ratio, has a stream for each process.
        """
        batches = islice(iter(self.batches), self.skipped, None)
        is_plain = type(self.batches) is BatchSampler
        for number, batch in enumerate(batches, self.first):
            start = number * self.batch_size
            yield [
                (
                    index,
                    (0, (start + place) * self.world_size + self.rank, 0)
                    if is_plain
                    else (1 + self.rank, number, place),
                )
                for place, index in enumerate(batch)
            ]


class SeededLoading:
    """Load the samples of a batch, each with random numbers of its own.

    To be the ``__getitems__`` of a dataset: PyTorch's loader calls it, in a
    worker or not, with what the batch sampler gives.

    Args:
        dataset (Dataset): Where samples come from.
        seed (int): Seed of the run.
    """

    def __init__(self, dataset: Dataset, seed: int):
        self.dataset, self.seed = dataset, seed

    def __call__(self, batch: KeyedBatch) -> list:
        """Load a batch of indices with their keys."""
        samples = []
        for index, key in batch:
            seed_cpu(self.seed, *key)
            samples.append(self.dataset[index])
        return samples


def seed_cpu(*key: int) -> None:
    """Seed Python, NumPy and PyTorch's CPU generator from a key.

    Args:
        key (int): Words. Keys of the same length that differ give streams
            that have nothing in common.
    """
    state = np.random.SeedSequence([abs(k) for k in key]).generate_state(4)
    random.seed(int(state[0]))
    np.random.seed(state[1:3])
    # torch.manual_seed would reach for the GPU's generators as well.
    torch.default_generator.manual_seed(int(state[3]))


def key_batches(loader: DataLoader, batches: KeyedBatches) -> None:
    """Let a loader that does not run yet ask for keyed batches."""
    # DataLoader refuses a new one because its batch_size could be wrong.
    object.__setattr__(loader, 'batch_sampler', batches)
