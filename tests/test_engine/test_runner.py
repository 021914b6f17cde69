"""One command on any machine; batch and rate are said, once."""

import os
import socket
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import AmpOptimWrapper
from torch import nn

from pixcon_mm.engine import PixConRunner
from pixcon_mm.errors import UserError, explain
from tests import toy


@pytest.fixture(autouse=True)
def _framework_state():
    with toy.framework_state():
        yield


@pytest.fixture(autouse=True)
def _no_cuda(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)


@pytest.fixture
def cfg(tmp_path):
    cfg = Config.fromfile(toy.write_config(tmp_path))
    cfg.work_dir = str(tmp_path / 'work')
    # Runners built within one second would share a logger.
    cfg.experiment_name = tmp_path.name
    return cfg


def train(cfg):
    """Run the config; returns the runner and its log."""
    runner = PixConRunner.from_cfg(cfg)
    runner.train()
    (log,) = Path(runner.log_dir).glob('*.log')
    return runner, log.read_text().splitlines()


def count(log, words):
    return sum(words in line for line in log)


def test_sync_bn_and_amp_run_as_what_can_run(cfg):
    runner, log = train(cfg)
    assert not any(
        isinstance(module, nn.SyncBatchNorm)
        for module in runner.model.modules()
    )
    assert not isinstance(runner.optim_wrapper, AmpOptimWrapper)
    assert count(log, 'training runs in float32') == 1
    trained = runner.optim_wrapper.param_groups[0]['params']
    ours = list(runner.model.parameters())
    assert [id(p) for p in trained] == [id(p) for p in ours]
    assert runner.model.norm.num_batches_tracked == runner.max_iters


@pytest.mark.parametrize(
    ('batch', 'steps', 'recipe', 'warnings'),
    [(2, 1, 2, 0), (2, 2, 4, 0), (2, 1, 512, 1), (2, 2, 2, 1), (4, 1, 2, 1)],
)
def test_another_total_batch_gives_one_warning(
    cfg, batch, steps, recipe, warnings
):
    cfg.train_dataloader.batch_size = batch
    cfg.optim_wrapper.accumulative_counts = steps
    cfg.auto_scale_lr.base_batch_size = recipe
    _, log = train(cfg)
    total = batch * steps
    assert count(log, f'total batch {total} = 1 process(es) x {batch}') == 1
    assert count(log, f'8 images, {8 // batch} iterations an epoch') == 1
    assert count(log, 'learning rate 0.4;') == 1
    about = [line for line in log if 'The total batch is' in line]
    assert len(about) == warnings
    for line in about:
        assert 'WARNING' in line
        assert f'is {total}, ' in line
        assert f'--total-batch {recipe}' in line
        assert f'{0.4 * total / recipe:g}.' in line


def test_auto_scale_lr_counts_accumulation(cfg):
    cfg.optim_wrapper.accumulative_counts = 2
    cfg.auto_scale_lr = dict(enable=True, base_batch_size=16)
    runner, log = train(cfg)
    assert runner.optim_wrapper.param_groups[0]['initial_lr'] == 0.1
    assert count(log, 'learning rate 0.1;') == 1
    assert count(log, 'WARNING - The total batch') == 0


def test_batch_of_a_batch_sampler(cfg):
    cfg.train_dataloader.pop('drop_last')
    cfg.train_dataloader.batch_sampler = dict(type='ToyBatchSampler')
    _, log = train(cfg)
    assert count(log, 'total batch 2 = 1 process(es) x 2 images') == 1
    assert count(log, 'images/s') == 8


def test_fewer_images_than_a_batch(cfg):
    cfg.train_dataloader.batch_size = 9
    with pytest.raises(UserError, match='8 images, fewer than a batch of 9'):
        PixConRunner.from_cfg(cfg).train()


def test_iterations_may_draw_from_few_images(cfg):
    cfg.train_dataloader.batch_size = 9
    cfg.train_dataloader.sampler = dict(type='InfiniteSampler')
    cfg.train_cfg = dict(by_epoch=False, max_iters=2)
    cfg.param_scheduler = None
    cfg.log_processor.by_epoch = False
    cfg.default_hooks.checkpoint.by_epoch = False
    runner, log = train(cfg)
    assert runner.iter == 2
    assert count(log, 'iteration 2/2') == 1


@pytest.mark.parametrize('launcher', ['slurm', 'mpi'])
def test_launchers_that_need_cuda_say_so(launcher):
    runner = PixConRunner.__new__(PixConRunner)
    runner._launcher, runner._distributed = launcher, True
    with pytest.raises(UserError, match=f'{launcher!r} needs CUDA'):
        runner.setup_env({})


@pytest.mark.parametrize(
    ('option', 'sentence'),
    [
        ({'train_dataloader.batchsize': 3}, "DataLoader a key 'batchsize'"),
        ({'train_cfg.max_epoch': 3}, "mean 'max_epochs'"),
        ({'param_scheduler.0.tmax': 3}, "key 'tmax'"),
        ({'optim_wrapper.optimizer.type': 'SDG'}, "mean 'SGD'"),
        ({'model.type': 'ToyMode'}, "mean 'ToyModel'"),
        ({'default_hooks.logger.intervall': 3}, "mean 'interval'"),
    ],
)
def test_mistakes_of_a_config_are_put_into_a_sentence(cfg, option, sentence):
    cfg.merge_from_dict(option)
    with pytest.raises(Exception, match='.') as caught:
        train(cfg)
    assert sentence in explain(caught.value, cfg)


def test_schedule_longer_than_the_run_is_said(cfg):
    _, log = train(cfg)
    assert count(log, 'but param_scheduler.') == 0
    cfg.train_cfg.max_epochs = 1
    cfg.experiment_name += '_short'
    _, log = train(cfg)
    said = 'The run has 4 iterations, but param_scheduler.0 (CosineAnnealingLR'
    assert count(log, said) == 1
    assert count(log, 'is for 8: override its end') == 1


def test_nothing_to_resume_is_said(cfg):
    cfg.resume = True
    _, log = train(cfg)
    assert count(log, 'to resume: the run starts from the beginning') == 1


@pytest.mark.parametrize('dtype', ['float16', 'bfloat16'])
def test_only_float16_is_scaled(tmp_path, monkeypatch, dtype):
    built = []
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(
        'mmengine.runner.Runner.build_optim_wrapper',
        lambda self, options: built.append(options) or wrapper,
    )
    runner = PixConRunner.__new__(PixConRunner)
    runner.model = torch.nn.Linear(1, 1)
    wrapper = SimpleNamespace(
        optimizer=torch.optim.SGD(runner.model.parameters(), 0.1)
    )
    optimizer = dict(type=torch.optim.SGD, lr=0.1)
    runner.build_optim_wrapper(
        dict(
            type='AmpOptimWrapper',
            dtype=dtype,
            loss_scale='dynamic',
            optimizer=optimizer,
        )
    )
    expected = 'dynamic' if dtype == 'float16' else dict(enabled=False)
    assert built[0]['loss_scale'] == expected


class Code:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (str(self.folder / 'code was run'),)


@pytest.mark.parametrize('way', ['resume', 'load_checkpoint', 'load_from'])
@pytest.mark.parametrize('zipped', [True, False])
def test_code_in_a_checkpoint_is_refused(cfg, tmp_path, way, zipped):
    runner, _ = train(cfg)
    content = torch.load(
        Path(runner.work_dir) / 'epoch_2.pth', weights_only=True
    )
    path = tmp_path / 'epoch_9.pth'
    torch.save(
        dict(content, extra=Code(tmp_path)),
        path,
        _use_new_zipfile_serialization=zipped,
    )
    cfg.experiment_name += '_again'
    cfg.load_from = str(path) if way == 'load_from' else None
    runner = PixConRunner.from_cfg(cfg)
    call = runner.train if way == 'load_from' else getattr(runner, way)
    with pytest.raises(UserError, match='could run code'):
        call() if way == 'load_from' else call(str(path))
    assert not (tmp_path / 'code was run').exists()


@pytest.mark.parametrize(
    'address', ['https://host/a.pth', 'http://host/a.pth', 's3://host/a.pth']
)
def test_addresses_are_not_fetched(cfg, monkeypatch, address):
    monkeypatch.setattr(socket, 'socket', None)
    cfg.load_from = address
    with pytest.raises(UserError, match='is not a local file: download it'):
        train(cfg)


def test_weights_are_loaded_as_far_as_they_fit(cfg, tmp_path):
    runner, _ = train(cfg)
    weights = runner.model.state_dict()
    path, given = tmp_path / 'weights.pth', dict(weights)
    given['linear.weight'] = torch.zeros(9, 4)
    given['head.weight'] = torch.zeros(1)
    del given['norm.bias']
    torch.save(
        {f'module.{name}': tensor for name, tensor in given.items()}, path
    )
    cfg.load_from, cfg.experiment_name = str(path), cfg.experiment_name + '_2'
    torch.manual_seed(9)
    runner = PixConRunner.from_cfg(cfg)
    before = {n: t.clone() for n, t in runner.model.state_dict().items()}
    runner.load_checkpoint(str(path))
    for name, tensor in runner.model.state_dict().items():
        is_fit = name not in ('linear.weight', 'norm.bias')
        assert torch.equal(tensor, (weights if is_fit else before)[name])
    (log,) = Path(runner.log_dir).glob('*.log')
    said = log.read_text()
    assert f'{len(weights) - 2}/{len(weights)} tensors from {path}' in said
    assert '2 tensors of the model start random, because ' in said


def test_weights_of_which_none_fits_are_refused(cfg, tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save({'conv1.weight': torch.zeros(1)}, path)
    cfg.load_from = str(path)
    with pytest.raises(UserError, match='none of the 1 tensors .* fits'):
        train(cfg)


def test_a_run_from_weights_is_a_new_run(cfg, tmp_path):
    runner, _ = train(cfg)
    path = Path(runner.work_dir) / 'epoch_1.pth'
    cfg.load_from, cfg.experiment_name = str(path), cfg.experiment_name + '_2'
    runner, _ = train(cfg)
    assert runner.iter == runner.model.steps == 8
