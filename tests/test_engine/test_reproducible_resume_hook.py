"""Seeded samples and steps: a resumed run ends as an unbroken one does."""

import pickle
import random
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.registry import DATA_SAMPLERS, DATASETS, MODELS
from mmengine.runner.loops import _InfiniteDataloaderIterator
from torch.utils.data import BatchSampler, DataLoader, Dataset

from pixcon_mm.engine import PixConRunner
from pixcon_mm.engine.seeded_loading import (
    KeyedBatches,
    SeededLoading,
    seed_generators,
)
from tests import test_transfer, toy
from tests.test_engine import runs
from tests.test_engine.runs import (
    ITERATIONS,
    assert_continues,
    checkpoint,
    hook,
    is_same,
    resume,
    state,
)

# MMEngine 0.10.7 loads again what a resumed run leaves out.
CAN_SKIP = hasattr(_InfiniteDataloaderIterator, 'skip_iter')
KILLED_AT, END = 3, 5


@pytest.fixture(autouse=True)
def _one_thread():
    """Layers this small only wait for a second one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def draws():
    """Take a number from each generator."""
    return random.random(), np.random.rand(), torch.rand(()).item()


@DATASETS.register_module()
class RandomVectors(Dataset):
    """Vectors from every generator; notes which index is read, in a file."""

    def __init__(self, size, notes=None):
        self.size, self.notes = size, notes

    def __len__(self):
        return self.size

    def get_data_info(self, index):
        """Mix upright and lying images, for samplers that ask."""
        return dict(width=2, height=1 + 2 * (index % 3 == 0))

    def __getitem__(self, index):
        if self.notes:
            with open(self.notes, 'a') as file:
                file.write(f'{index}\n')
        return dict(inputs=torch.tensor([*draws(), index / self.size]))


@MODELS.register_module()
class DropoutModel(toy.ToyModel):
    """Drops inputs, and has noise in a loss."""

    def forward(self, inputs, mode='loss'):
        inputs = [torch.nn.functional.dropout(x, 0.5) for x in inputs]
        losses = super().forward(inputs, mode)
        return dict(losses, loss_noise=losses['loss_dense'] * draws()[0])


def config(folder, name, workers=0, batch_sampler=True, **options):
    """Configure an endless run, as detectors and segmentors have it."""
    loop = dict(train_cfg=dict(max_iters=END))
    cfg = runs.config(folder, name, ITERATIONS, loop, hook(interval=KILLED_AT))
    cfg.model = dict(type='DropoutModel')
    loader = cfg.train_dataloader
    notes = str(folder / f'{name}.txt')
    loader.dataset = dict(type='RandomVectors', size=37, notes=notes)
    loader.num_workers = workers
    if batch_sampler:
        del loader.drop_last
        loader.batch_sampler = dict(type='ToyBatchSampler')
    cfg.merge_from_dict(options)
    return cfg


def without_hook(cfg):
    del cfg.default_hooks.reproducible_resume
    return cfg


def train(cfg):
    runner, seen = runs.train(cfg)
    # The garbage collector would wait five seconds for each worker.
    vars(runner.train_loop).pop('dataloader_iterator', None)
    return runner, seen


@pytest.mark.parametrize(
    ('batch_sampler', 'workers', 'then'),
    [(True, 0, 0), (False, 0, 0), (False, 2, 2), (True, 1, 2)],
)
def test_ends_the_same_and_reads_nothing_twice(
    tmp_path, batch_sampler, workers, then
):
    whole, expected = train(config(tmp_path, 'whole', workers, batch_sampler))
    cfg = config(tmp_path, 'resumed', then, batch_sampler)
    resumed, seen = resume(cfg, checkpoint(whole, f'iter_{KILLED_AT}'))
    vars(resumed.train_loop).pop('dataloader_iterator')
    assert_continues(seen, expected, KILLED_AT)
    if not CAN_SKIP:
        return

    order = InfiniteSampler(RandomVectors(37), shuffle=True, seed=0)
    order = list(islice(order, KILLED_AT * 2, 40))
    read = Path(cfg.train_dataloader.dataset.notes).read_text().split()
    # Workers read ahead, at most two batches each.
    most = (END - KILLED_AT + 2 * then) * 2
    assert (END - KILLED_AT) * 2 <= len(read) <= most
    assert Counter(map(int, read)) <= Counter(order[:most])


def test_without_the_hook_it_ends_elsewhere(tmp_path):
    whole, _ = train(without_hook(config(tmp_path, 'whole')))
    cfg = without_hook(config(tmp_path, 'resumed'))
    resumed, _ = resume(cfg, checkpoint(whole, f'iter_{KILLED_AT}'))
    assert not is_same(state(whole), state(resumed))


@pytest.mark.parametrize('seed', [None, 1])
def test_the_seed_is_the_checkpoints(tmp_path, seed):
    """The config may have none or another; the order of images holds too."""
    options = {'randomness.seed': None if seed is None else 0}
    whole, expected = train(config(tmp_path, 'whole', **options))
    cfg = config(tmp_path, 'resumed', **{'randomness.seed': seed})
    _, seen = resume(cfg, checkpoint(whole, f'iter_{KILLED_AT}'))
    assert_continues(seen, expected, KILLED_AT)


@pytest.mark.skipif(not CAN_SKIP, reason='MMEngine has no such option')
def test_fast_forward_takes_the_first_images_again(tmp_path):
    whole, first = train(config(tmp_path, 'whole'))
    option = {'train_cfg.fast_forward_on_resume': True}
    cfg = config(tmp_path, 'resumed', **option)
    _, seen = resume(cfg, checkpoint(whole, f'iter_{KILLED_AT}'))
    first, again = first.images[1], seen.images[KILLED_AT + 1]
    assert torch.equal(first[:, 3], again[:, 3])
    assert not torch.equal(first[:, :3], again[:, :3])


def test_runs_of_another_kind_are_left_alone(tmp_path):
    options = {'train_dataloader.sampler.type': 'DefaultSampler'}
    one, _ = train(config(tmp_path, 'with', **options))
    other, _ = train(without_hook(config(tmp_path, 'without', **options)))
    loader = one.train_dataloader
    assert type(loader.batch_sampler) is toy.ToyBatchSampler
    assert is_same(state(one), state(other))


@pytest.mark.slow
@pytest.mark.parametrize('batch_sampler', [True, False])
@pytest.mark.parametrize('workers', [0, 2])
def test_an_epoch_is_continued_in_its_middle(tmp_path, batch_sampler, workers):
    """18 iterations an epoch; 3 and 22 are in the first and the second."""

    def by_epoch(name):
        cfg = config(tmp_path, name, workers, batch_sampler)
        cfg.train_dataloader.sampler.type = 'DefaultSampler'
        cfg.train_dataloader.persistent_workers = workers > 0
        cfg.train_cfg = dict(by_epoch=True, max_epochs=2)
        cfg.default_hooks.checkpoint.interval = 1
        return cfg

    whole, expected = train(by_epoch('whole'))
    assert whole.iter == 2 * 18
    for start in (3, 18, 22):
        path = checkpoint(whole, f'iter_{start}')
        _, seen = resume(by_epoch(f'from-{start}'), path)
        assert_continues(seen, expected, start)


def test_a_loader_that_runs_already_starts_over(tmp_path):
    """Old versions of MMEngine start it when they build the loop."""
    expected, _ = train(config(tmp_path, 'late'))
    runner = PixConRunner.from_cfg(config(tmp_path, 'early'))
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    next(runner.train_loop.dataloader_iterator)
    # The sampler's stream cannot be rewound: only its first batch is lost.
    sampler = runner.train_dataloader.batch_sampler.sampler
    sampler.indices = sampler._indices_of_rank()
    runner.train()
    assert is_same(state(expected), state(runner))


def small(case, folder, name, workers=0):
    """Configure a small detector or segmentor, with random weights."""
    options = {
        'work_dir': f'{folder}/{name}',
        'experiment_name': f'{folder.name}-{name}',
        'train_cfg.max_iters': END,
        'train_dataloader.num_workers': workers,
        'default_hooks.checkpoint.interval': KILLED_AT,
        'randomness.seed': 3,
    }
    cfg = getattr(test_transfer, case)(folder, 'none', **options)
    if case == 'mask_rcnn_fpn':
        # Precise BN runs, and samplers choose regions.
        resize = cfg.train_dataloader.dataset.pipeline[2]
        resize.scales = [(96, 64), (72, 48)]
    else:
        cfg.model.decode_head.dropout_ratio = 0.5
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    return cfg


def train_and_resume(cfg, again):
    """Return the final states of a run and of one that resumes."""
    states = []
    for one in (cfg, again):
        runner = PixConRunner.from_cfg(one)
        runner.train()
        vars(runner.train_loop).pop('dataloader_iterator')
        again.load_from = str(checkpoint(runner, f'iter_{KILLED_AT}'))
        again.resume = True
        states.append(state(runner))
    return states


@pytest.mark.parametrize(
    ('case', 'workers'), [('mask_rcnn_fpn', 0), ('fcn', 2)]
)
def test_models_end_the_same(tmp_path, case, workers):
    pair = [small(case, tmp_path, n, workers) for n in ('whole', 'resumed')]
    assert is_same(*train_and_resume(*pair))


@pytest.mark.slow
@pytest.mark.parametrize('case', ['mask_rcnn_fpn', 'fcn'])
def test_models_end_elsewhere_without_the_hook(tmp_path, case):
    pair = [small(case, tmp_path, n) for n in ('whole', 'resumed')]
    assert not is_same(*train_and_resume(*map(without_hook, pair)))


def infinite(seed, batch_size=2, kind='ToyBatchSampler'):
    sampler = InfiniteSampler(RandomVectors(11), shuffle=True, seed=seed)
    if kind == 'BatchSampler':
        return BatchSampler(sampler, batch_size, drop_last=True)
    return DATA_SAMPLERS.get(kind)(sampler, batch_size=batch_size)


@pytest.mark.parametrize(
    'kind',
    ['mmdet.AspectRatioBatchSampler', 'ToyBatchSampler', 'BatchSampler'],
)
def test_endless_batches_after_those_that_are_skipped(kind):
    every = KeyedBatches(infinite(5, kind=kind), is_endless=True)
    every = list(islice(every, 50))
    indices = [[index for index, _ in batch] for batch in every]
    assert indices == list(islice(infinite(5, kind=kind), 50))
    for skipped in (1, 7, 30):
        some = KeyedBatches(infinite(5, kind=kind), is_endless=True)
        some.first = skipped
        some.skip(skipped)
        expected = every[skipped : skipped + 20]
        assert list(islice(some, 20)) == expected


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

    sampler = Repeats(RandomVectors(11), shuffle=False)
    batches = KeyedBatches(BatchSampler(sampler, 2, drop_last=False))
    batches.epoch = 4
    keys = [key for batch in batches for _, key in batch]
    visits = [(3, 0), (1, 0), (3, 1), (2, 0), (3, 2), (0, 0)]
    assert keys == [(4, *visit) for visit in visits]
    batches.skip(1)
    assert [key for batch in batches for _, key in batch] == keys[2:]


@pytest.mark.parametrize('workers', [0, 2])
@pytest.mark.parametrize('is_endless', [True, False])
def test_a_sample_is_the_same_in_any_worker(workers, is_endless):
    dataset = RandomVectors(11)
    dataset.__getitems__ = SeededLoading(dataset, seed=7)

    def keyed_batches():
        sampler = DefaultSampler(dataset, seed=7)
        batches = infinite(7) if is_endless else BatchSampler(sampler, 2, True)
        return KeyedBatches(batches, 1, 2, is_endless)

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
            expected = torch.tensor([*draws(), index / 11])
            assert torch.equal(sample['inputs'], expected)


def test_every_key_has_its_own_stream():
    def drawn(*key):
        seed_generators(*key)
        return draws()

    keys = [(s, e, i) for s in (0, 2**31) for e in (0, 1) for i in (0, 79_999)]
    numbers = {key: drawn(*key) for key in keys}
    # The three generators have streams of their own, too.
    assert len({n for values in numbers.values() for n in values}) == 3 * 8
    assert numbers == {key: drawn(*key) for key in keys}
