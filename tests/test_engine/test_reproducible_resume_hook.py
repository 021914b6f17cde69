"""A run that is killed and resumed ends as an unbroken one does."""

import random
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import InfiniteSampler
from mmengine.registry import DATASETS, MODELS
from torch.utils.data import Dataset

from pixcon_mm.engine import PixConRunner
from pixcon_mm.engine.seeded_loading import seed_generators
from tests import test_transfer, toy

KILLED_AT, END = 3, 5


@pytest.fixture(autouse=True)
def _framework_state():
    with toy.framework_state():
        yield


@pytest.fixture(autouse=True)
def _one_thread():
    """Layers this small only wait for a second one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def draws():
    """A number from each generator."""
    return random.random(), np.random.rand(), torch.rand(()).item()


@DATASETS.register_module()
class RandomVectors(Dataset):
    """Vectors from every generator; notes which index is read, in a file."""

    def __init__(self, size, notes):
        self.size, self.notes = size, notes

    def __len__(self):
        return self.size

    def __getitem__(self, index):
        with open(self.notes, 'a') as file:
            file.write(f'{index}\n')
        return dict(inputs=torch.tensor([*draws(), index / self.size]))


@MODELS.register_module()
class DropoutModel(toy.ToyModel):
    """Drops inputs, and remembers what it was given."""

    def forward(self, inputs, mode='loss'):
        self.given = [*getattr(self, 'given', []), torch.stack(inputs)]
        inputs = [torch.nn.functional.dropout(x, 0.5) for x in inputs]
        losses = super().forward(inputs, mode)
        return dict(losses, loss_noise=losses['loss_dense'] * draws()[0])


def toy_config(folder, name, workers=0, batch_sampler=True, **options):
    """An endless run of a toy, as detectors (or segmentors) have it."""
    cfg = Config.fromfile(toy.write_config(folder))
    cfg.work_dir = str(folder / name)
    cfg.experiment_name = f'{folder.name}-{name}'
    cfg.model = dict(type='DropoutModel')
    loader = cfg.train_dataloader
    loader.sampler = dict(type='InfiniteSampler', shuffle=True)
    notes = str(folder / f'{name}.txt')
    loader.dataset = dict(type='RandomVectors', size=37, notes=notes)
    loader.num_workers = workers
    if batch_sampler:
        del loader.drop_last
        loader.batch_sampler = dict(type='ToyBatchSampler')
    cfg.optim_wrapper = dict(
        type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1, momentum=0.9)
    )
    cfg.param_scheduler = None
    cfg.train_cfg = dict(by_epoch=False, max_iters=END)
    cfg.log_processor.by_epoch = False
    cfg.default_hooks.checkpoint = dict(
        type='CheckpointHook', by_epoch=False, interval=KILLED_AT
    )
    cfg.default_hooks.reproducible_resume = dict(type='ReproducibleResumeHook')
    cfg.merge_from_dict(options)
    return cfg


def without_hook(cfg):
    del cfg.default_hooks.reproducible_resume
    return cfg


def train(cfg):
    runner = PixConRunner.from_cfg(cfg)
    runner.train()
    # The garbage collector would wait five seconds for each worker.
    vars(runner.train_loop).pop('dataloader_iterator', None)
    return runner


def resume(cfg, unbroken):
    """Go on from a checkpoint, as if that run had been killed after it."""
    path = Path(unbroken.work_dir) / f'iter_{KILLED_AT}.pth'
    cfg.load_from, cfg.resume = str(path), True
    return train(cfg)


def state(runner):
    """All tensors that a run ends with, by name."""
    state = dict(runner.model.state_dict())
    optimizer = runner.optim_wrapper.optimizer.state_dict()['state']
    for index, slots in optimizer.items():
        for name, value in slots.items():
            state[f'{name} of {index}'] = value
    assert any(name.startswith('momentum') for name in state)
    return state


def is_same(first, second):
    first, second = state(first), state(second)
    assert first.keys() == second.keys()
    return all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(
    ('batch_sampler', 'workers', 'then'),
    [(True, 0, 0), (True, 2, 2), (False, 0, 0), (False, 2, 2), (True, 1, 2)],
)
def test_ends_the_same_and_reads_nothing_twice(
    tmp_path, batch_sampler, workers, then
):
    unbroken = train(toy_config(tmp_path, 'whole', workers, batch_sampler))
    cfg = toy_config(tmp_path, 'resumed', then, batch_sampler)
    resumed = resume(cfg, unbroken)
    assert is_same(unbroken, resumed)
    given = unbroken.model.given[KILLED_AT:]
    assert all(map(torch.equal, given, resumed.model.given))

    order = infinite(RandomVectors(37, None), seed=0)
    order = list(islice(order, KILLED_AT * 2, 40))
    read = Path(cfg.train_dataloader.dataset.notes).read_text().split()
    # Workers read ahead, at most two batches each.
    most = (END - KILLED_AT + 2 * then) * 2
    assert (END - KILLED_AT) * 2 <= len(read) <= most
    assert Counter(map(int, read)) <= Counter(order[:most])


def infinite(dataset, seed):
    return InfiniteSampler(dataset, shuffle=True, seed=seed)


def test_without_the_hook_it_ends_elsewhere(tmp_path):
    unbroken = train(without_hook(toy_config(tmp_path, 'whole')))
    cfg = without_hook(toy_config(tmp_path, 'resumed'))
    assert not is_same(unbroken, resume(cfg, unbroken))


@pytest.mark.parametrize('seed', [None, 1])
def test_the_seed_is_the_checkpoints(tmp_path, seed):
    """Whether the config has none or another, for the order of images too."""
    options = {'randomness.seed': None if seed is None else 0}
    unbroken = train(toy_config(tmp_path, 'whole', **options))
    options['randomness.seed'] = seed
    resumed = resume(toy_config(tmp_path, 'resumed', **options), unbroken)
    assert is_same(unbroken, resumed)


def test_fast_forward_takes_the_first_images_anew(tmp_path):
    unbroken = train(toy_config(tmp_path, 'whole'))
    option = {'train_cfg.fast_forward_on_resume': True}
    resumed = resume(toy_config(tmp_path, 'resumed', **option), unbroken)
    first, again = unbroken.model.given[0], resumed.model.given[0]
    assert torch.equal(first[:, 3], again[:, 3])
    assert not torch.equal(first[:, :3], again[:, :3])


def test_runs_of_another_kind_are_left_alone(tmp_path):
    options = {'train_dataloader.sampler.type': 'DefaultSampler'}
    runners = []
    for name in ('with', 'without'):
        cfg = toy_config(tmp_path, name, **options)
        runners.append(train(cfg if name == 'with' else without_hook(cfg)))
    loader = runners[0].train_dataloader
    assert type(loader.batch_sampler) is toy.ToyBatchSampler
    assert is_same(*runners)


@pytest.mark.slow
@pytest.mark.parametrize('batch_sampler', [True, False])
@pytest.mark.parametrize('workers', [0, 2])
def test_an_epoch_is_continued_in_its_middle(tmp_path, batch_sampler, workers):
    """18 iterations an epoch; 3 and 22 are in the first and the second."""

    def config(name):
        cfg = toy_config(tmp_path, name, workers, batch_sampler)
        cfg.train_dataloader.sampler.type = 'DefaultSampler'
        cfg.train_dataloader.persistent_workers = workers > 0
        cfg.train_cfg = dict(by_epoch=True, max_epochs=2)
        cfg.default_hooks.checkpoint.interval = 1
        return cfg

    unbroken = train(config('whole'))
    for start in (3, 18, 22):
        cfg = config(f'resumed-{start}')
        path = Path(unbroken.work_dir) / f'iter_{start}.pth'
        cfg.load_from, cfg.resume = str(path), True
        resumed = train(cfg)
        assert resumed.iter == unbroken.iter == 2 * 18
        assert is_same(unbroken, resumed)
        given = unbroken.model.given[start:]
        assert all(map(torch.equal, given, resumed.model.given))


def test_a_loader_that_runs_already_starts_over(tmp_path):
    """Old versions of MMEngine start it when they build the loop."""
    expected = train(toy_config(tmp_path, 'late'))
    runner = PixConRunner.from_cfg(toy_config(tmp_path, 'early'))
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    next(runner.train_loop.dataloader_iterator)
    # The sampler's stream cannot be rewound: only its first batch is lost.
    sampler = runner.train_dataloader.batch_sampler.sampler
    sampler.indices = sampler._indices_of_rank()
    runner.train()
    assert is_same(expected, runner)


def small(case, folder, name, workers=0):
    """A small detector or segmentor of test_transfer.py, random weights."""
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


@pytest.mark.parametrize(
    ('case', 'workers'),
    [('mask_rcnn_fpn', 0), ('mask_rcnn_fpn', 2), ('fcn', 2)],
)
def test_models_end_the_same(tmp_path, case, workers):
    unbroken = train(small(case, tmp_path, 'whole', workers))
    cfg = small(case, tmp_path, 'resumed', workers)
    assert is_same(unbroken, resume(cfg, unbroken))


@pytest.mark.parametrize('case', ['mask_rcnn_fpn', 'fcn'])
def test_models_end_elsewhere_without_the_hook(tmp_path, case):
    unbroken = train(without_hook(small(case, tmp_path, 'whole')))
    cfg = without_hook(small(case, tmp_path, 'resumed'))
    assert not is_same(unbroken, resume(cfg, unbroken))


def test_equal_seeds_do_not_make_generators_equal():
    seed_generators(0, 0, 0)
    mine = [random.random() for _ in range(8)]
    assert not set(mine) & set(np.random.rand(8))


def test_steps_have_streams_of_their_own():
    def drawn(*key):
        seed_generators(*key)
        return draws()

    keys = [(s, r, i) for s in (0, 2**31) for r in (0, 1) for i in (0, 79_999)]
    numbers = {key: drawn(*key) for key in keys}
    assert len({n for values in numbers.values() for n in values}) == 3 * 8
    assert numbers == {key: drawn(*key) for key in keys}
