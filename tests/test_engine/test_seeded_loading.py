"""Random numbers of a sample depend on its place, not on who loads it."""

import pickle
import random
from itertools import islice

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.registry import DATA_SAMPLERS
from torch.utils.data import BatchSampler, DataLoader, Dataset

from pixcon_mm.engine.seeded_loading import (
    KeyedBatches,
    SeededLoading,
    seed_generators,
)
from tests import toy  # noqa: F401, registers ToyBatchSampler


def draws():
    return random.random(), np.random.rand(), torch.rand(()).item()


class Shapes(Dataset):
    """Upright and lying images, mixed."""

    def __len__(self):
        return 11

    def get_data_info(self, index):
        return dict(width=2, height=1 + 2 * (index % 3 == 0))

    def __getitem__(self, index):
        return dict(index=index, drawn=draws())


def infinite(seed, batch_size=2, kind='ToyBatchSampler'):
    sampler = InfiniteSampler(Shapes(), shuffle=True, seed=seed)
    if kind == 'BatchSampler':
        return BatchSampler(sampler, batch_size, drop_last=True)
    return DATA_SAMPLERS.get(kind)(sampler, batch_size=batch_size)


@pytest.mark.parametrize(
    'kind',
    ['mmdet.AspectRatioBatchSampler', 'ToyBatchSampler', 'BatchSampler'],
)
@pytest.mark.parametrize('skipped', [0, 1, 2, 7, 30])
def test_endless_batches_after_those_that_are_skipped(kind, skipped):
    every = KeyedBatches(infinite(5, kind=kind), is_endless=True)
    expected = list(islice(every, skipped, skipped + 20))
    some = KeyedBatches(infinite(5, kind=kind), is_endless=True)
    some.first = skipped
    some.skip(skipped)
    assert list(islice(some, 20)) == expected
    indices = [[index for index, _ in batch] for batch in expected]
    plain = islice(infinite(5, kind=kind), skipped, skipped + 20)
    assert indices == list(plain)


def test_keys_of_a_stream_do_not_depend_on_the_number_of_processes():
    """Two processes of two images load what one process of four loads."""
    one = KeyedBatches(infinite(5, 4, 'BatchSampler'), is_endless=True)
    both = []
    for rank in range(2):
        batches = infinite(5, 2, 'BatchSampler')
        # What the sampler does where there are two processes.
        batches.sampler.rank, batches.sampler.world_size = rank, 2
        batches.sampler.indices = batches.sampler._indices_of_rank()
        keyed = KeyedBatches(batches, rank, 2, is_endless=True)
        both.append(list(islice(keyed, 30)))
    for number, batch in enumerate(islice(one, 30)):
        assert sorted(both[0][number] + both[1][number]) == sorted(batch)


def test_an_epoch_skips_and_counts_repeated_indices():
    class Repeats(DefaultSampler):
        def __iter__(self):
            return iter([3, 1, 3, 2, 3, 0])

    sampler = Repeats(Shapes(), shuffle=False)
    batches = KeyedBatches(BatchSampler(sampler, 2, drop_last=False))
    batches.epoch = 4
    keys = [key for batch in batches for _, key in batch]
    assert keys == [
        (4, 3, 0),
        (4, 1, 0),
        (4, 3, 1),
        (4, 2, 0),
        (4, 3, 2),
        (4, 0, 0),
    ]
    batches.skip(1)
    assert [key for batch in batches for _, key in batch] == keys[2:]


@pytest.mark.parametrize('workers', [0, 1, 2])
@pytest.mark.parametrize('is_endless', [True, False])
def test_a_sample_draws_the_same_in_any_worker(workers, is_endless):
    dataset = Shapes()
    dataset.__getitems__ = SeededLoading(dataset, seed=7)

    def keyed_batches():
        sampler = DefaultSampler(dataset, seed=7)
        batches = infinite(7) if is_endless else BatchSampler(sampler, 2, True)
        keyed = KeyedBatches(batches, 1, 2, is_endless)
        keyed.first = 9
        return keyed

    loader = DataLoader(
        # As workers that are spawned get it.
        pickle.loads(pickle.dumps(dataset)),
        batch_sampler=keyed_batches(),
        num_workers=workers,
        collate_fn=list,
    )
    loaded = list(islice(loader, 4))
    for batch, keys in zip(loaded, islice(keyed_batches(), 4), strict=True):
        for sample, (index, key) in zip(batch, keys, strict=True):
            seed_generators(7, *key)
            assert sample == dict(index=index, drawn=draws())


def test_every_key_has_its_own_stream():
    keys = [(s, e, i) for s in (0, 1) for e in (0, 2**31) for i in range(5)]
    drawn = {}
    for key in keys:
        seed_generators(*key)
        drawn[key] = draws()
    assert len({n for values in drawn.values() for n in values}) == 3 * 20
