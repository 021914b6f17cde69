"""Samples and steps are seeded by their place, and none comes twice."""

import time
from collections import Counter
from itertools import islice
from pathlib import Path

import mmdet.datasets  # noqa: F401
import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmengine.runner.loops import _InfiniteDataloaderIterator
from torch.utils.data import BatchSampler

from pixcon_mm.engine import PixConRunner
from pixcon_mm.engine.seeded_loading import KeyedBatches
from tests import test_transfer
from tests.test_engine.runs import (
    ITERATIONS,
    AfterEpoch,
    RandomVectors,
    assert_continues,
    checkpoint,
    config,
    end_workers,
    hook,
    is_same,
    resume,
    state,
    train,
)

# MMEngine 0.10.7 loads again what a resumed run leaves out.
CAN_SKIP = hasattr(_InfiniteDataloaderIterator, 'skip_iter')
KILLED_AT, END = 3, 5


def endless(folder, name, workers=0, batch_sampler=True, **options):
    """Configure a run as detectors and segmentors have it."""
    loop = dict(train_cfg=dict(max_iters=END))
    cfg = config(folder, name, ITERATIONS, loop, hook(interval=KILLED_AT))
    loader = cfg.train_dataloader
    loader.dataset.update(size=37, notes=str(folder / f'{name}.txt'))
    loader.num_workers = workers
    if batch_sampler:
        del loader.drop_last
        loader.batch_sampler = dict(type='ToyBatchSampler')
    cfg.merge_from_dict(options)
    return cfg


@pytest.mark.parametrize(
    ('batch_sampler', 'workers', 'then'),
    [(True, 0, 0), (False, 2, 2), (True, 1, 2)],
)
def test_ends_the_same_and_reads_nothing_twice(
    tmp_path, batch_sampler, workers, then
):
    cfg = endless(tmp_path, 'whole', workers, batch_sampler)
    whole, expected = train(cfg)
    path = checkpoint(whole, f'iter_{KILLED_AT}')
    cfg = endless(tmp_path, 'resumed', then, batch_sampler)
    _, seen = resume(cfg, path)
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


@pytest.mark.parametrize('seed', [None, 1])
def test_the_seed_is_the_checkpoints(tmp_path, seed):
    """The config may have none or another; the order of images holds too."""
    options = {'randomness.seed': None if seed is None else 0}
    whole, expected = train(endless(tmp_path, 'whole', **options))
    cfg = endless(tmp_path, 'resumed', **{'randomness.seed': seed})
    _, seen = resume(cfg, checkpoint(whole, f'iter_{KILLED_AT}'))
    assert_continues(seen, expected, KILLED_AT)


@pytest.mark.skipif(not CAN_SKIP, reason='MMEngine has no such option')
def test_fast_forward_takes_the_first_images_again(tmp_path):
    whole, first = train(endless(tmp_path, 'whole'))
    option = {'train_cfg.fast_forward_on_resume': True}
    cfg = endless(tmp_path, 'resumed', **option)
    _, seen = resume(cfg, checkpoint(whole, f'iter_{KILLED_AT}'))
    first, again = first.images[1], seen.images[KILLED_AT + 1]
    assert torch.equal(first[:, 3], again[:, 3])
    assert not torch.equal(first[:, :3], again[:, :3])


def test_workers_continue_an_epoch_in_its_middle(tmp_path):
    """18 iterations an epoch; 3 and 22 are in the first and the second."""

    def by_epoch(name):
        cfg = endless(tmp_path, name, workers=2)
        cfg.train_dataloader.sampler.type = 'DefaultSampler'
        cfg.train_dataloader.persistent_workers = True
        cfg.train_cfg = dict(by_epoch=True, max_epochs=2)
        cfg.default_hooks.checkpoint.interval = 1
        return cfg

    whole, expected = train(by_epoch('whole'))
    # Each sample has random numbers of its own, in each epoch.
    drawn = torch.cat([*expected.images.values()])[:, :3]
    assert len(drawn.unique()) == drawn.numel() == 2 * 36 * 3
    for start in (3, 22):
        path = checkpoint(whole, f'iter_{start}')
        _, seen = resume(by_epoch(f'from-{start}'), path)
        assert_continues(seen, expected, start)


def in_epochs(folder, name, workers, size):
    """Configure a run of four epochs of size / 2 iterations."""
    cfg = endless(folder, name, workers, batch_sampler=False)
    loader = cfg.train_dataloader
    loader.dataset.size, loader.sampler.type = size, 'DefaultSampler'
    loader.persistent_workers = workers > 0
    cfg.train_cfg = dict(by_epoch=True, max_epochs=4)
    return cfg


def images_of(cfg, *hooks):
    _, seen = train(cfg, *hooks)
    return torch.stack([*seen.images.values()])


# Two workers load up to four batches in advance: a part of the next epoch, or
# more than one epoch.
@pytest.mark.parametrize('size', [12, 4])
def test_epochs_are_those_of_a_loader_without_workers(tmp_path, size):
    alone = images_of(in_epochs(tmp_path, 'alone', 0, size))
    assert len(alone) == 4 * size / 2
    assert len(alone[:, :, 0].unique()) == 4 * size
    orders = alone.view(4, size, 4)[:, :, 3]
    assert len(orders.unique(dim=0)) > 1
    cfg = in_epochs(tmp_path, 'workers', 2, size)
    assert torch.equal(images_of(cfg), alone)
    # Nothing is loaded for epochs after the last one.
    read = Path(cfg.train_dataloader.dataset.notes).read_text().split()
    assert len(read) == 4 * size


def test_workers_load_the_next_epoch_in_advance(tmp_path):
    cfg = in_epochs(tmp_path, 'ahead', 2, 12)
    notes = Path(cfg.train_dataloader.dataset.notes)

    def read_ahead(runner):
        expected = min((runner.epoch + 1) * 12 + 8, 48)
        deadline = time.monotonic() + 60
        while len(notes.read_text().split()) < expected:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    train(cfg, AfterEpoch(read_ahead))


def test_a_hook_can_use_the_loader_between_epochs(tmp_path):
    counts = []
    cfg = in_epochs(tmp_path, 'used', 2, 12)
    hook = AfterEpoch(lambda run: counts.append(len([*run.train_dataloader])))
    alone = images_of(in_epochs(tmp_path, 'alone', 0, 12))
    assert torch.equal(images_of(cfg, hook), alone)
    assert counts == [6] * 4


def test_a_hook_can_change_the_data_between_epochs(tmp_path):
    """As MMEngine's PipelineSwitchHook does."""

    def switch(runner):
        loader = runner.train_dataloader
        if runner.epoch == 1:
            loader.dataset.scale = 2
            if loader.persistent_workers:
                loader._DataLoader__initialized = False
                loader._iterator = None

    both = [
        images_of(
            in_epochs(tmp_path, f'{n} workers', n, 12), AfterEpoch(switch)
        )
        for n in (0, 2)
    ]
    assert torch.equal(*both)
    ends = both[0].view(4, 12, 4)[:, :, 3].amax(1)
    assert ends.tolist() == pytest.approx([11 / 12, 11 / 12, 11 / 6, 11 / 6])


def test_a_loader_that_runs_already_starts_over(tmp_path):
    """Old versions of MMEngine start it when they build the loop."""

    def grouped(name):
        cfg = endless(tmp_path, name, workers=1)
        loader = cfg.train_dataloader
        loader.batch_sampler.type = 'mmdet.AspectRatioBatchSampler'
        loader.persistent_workers = True
        return cfg

    expected, _ = train(grouped('late'))
    runner = PixConRunner.from_cfg(grouped('early'))
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    next(runner.train_loop.dataloader_iterator)
    runner.train()
    end_workers(runner)
    assert is_same(state(expected), state(runner))


def small(case, folder, name, workers=0):
    """Configure a small detector or segmentor, with random weights."""
    options = {
        'work_dir': f'{folder}/{name}',
        'experiment_name': f'{folder.name}-{name}',
        'train_cfg.max_iters': END,
        'train_dataloader.num_workers': workers,
        'default_hooks.checkpoint.interval': KILLED_AT,
        'default_hooks.checkpoint.max_keep_ckpts': -1,
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


@pytest.mark.parametrize(
    ('case', 'workers'),
    [('mask_rcnn_fpn', 0), ('fcn', 2)],
)
def test_models_end_the_same(tmp_path, case, workers):
    """As MMDetection and MMSegmentation make samples and batches."""
    states, path = [], None
    for name in ('whole', 'resumed'):
        cfg = small(case, tmp_path, name, workers)
        cfg.load_from, cfg.resume = path, path is not None
        runner, _ = train(cfg, recorded=False)
        path = str(checkpoint(runner, f'iter_{KILLED_AT}'))
        states.append(state(runner))
    assert is_same(*states)


@pytest.mark.parametrize('sampler', [InfiniteSampler, DefaultSampler])
def test_keys_do_not_depend_on_the_number_of_processes(sampler, monkeypatch):
    """Two processes of two images load what one process of four loads."""

    def stream(batch_size, *place):
        name = f'{sampler.__module__}.get_dist_info'
        monkeypatch.setattr(name, lambda: place)
        indices = sampler(RandomVectors(12), shuffle=True, seed=5)
        batches = BatchSampler(indices, batch_size, drop_last=True)
        is_endless = sampler is InfiniteSampler
        keyed = KeyedBatches(batches, *place, is_endless=is_endless)
        found = []
        for keyed.epoch in range(3):
            if not is_endless:
                indices.set_epoch(keyed.epoch)
            found += islice(keyed, 30)
        return found

    parts = zip(stream(2, 0, 2), stream(2, 1, 2), strict=True)
    for batch, (first, second) in zip(stream(4, 0, 1), parts, strict=True):
        assert sorted(first + second) == sorted(batch)
