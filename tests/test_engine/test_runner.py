"""One command on any machine; batch and rate are logged, once."""

import os
import socket
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import ExponentialMovingAverage
from mmengine.optim import AmpOptimWrapper
from mmengine.registry import MODELS
from torch import nn

from pixcon_mm.engine import PixConRunner, precision
from pixcon_mm.engine import runner as runner_module
from pixcon_mm.engine.hooks.run_summary_hook import RunSummaryHook
from pixcon_mm.errors import UserError
from tests import toy
from tests.test_engine.runs import NUMBERS, log_of


@pytest.fixture
def cfg(tmp_path):
    cfg = Config.fromfile(toy.write_config(tmp_path))
    cfg.work_dir = str(tmp_path / 'work')
    return cfg


def build(cfg):
    # Runners of one name would share their logger and their history.
    cfg.experiment_name = f'runner-{next(NUMBERS)}'
    return PixConRunner.from_cfg(cfg)


def train(cfg):
    """Run the config; returns the runner and its log."""
    runner = build(cfg)
    runner.train()
    return runner, log_of(runner)


def count_iterations(cfg, length):
    """Make the loop count iterations instead of epochs."""
    cfg.train_dataloader.sampler = dict(type='InfiniteSampler')
    cfg.train_cfg = dict(by_epoch=False, max_iters=length)
    cfg.param_scheduler = None
    cfg.log_processor.by_epoch = False
    cfg.default_hooks.checkpoint.by_epoch = False


def test_sync_bn_and_amp_run_as_what_can_run(cfg):
    runner, log = train(cfg)
    assert not any(
        isinstance(module, nn.SyncBatchNorm)
        for module in runner.model.modules()
    )
    assert not isinstance(runner.optim_wrapper, AmpOptimWrapper)
    assert log.count('training runs in float32') == 1
    trained = runner.optim_wrapper.param_groups[0]['params']
    ours = list(runner.model.parameters())
    assert [id(p) for p in trained] == [id(p) for p in ours]
    assert runner.model.norm.num_batches_tracked == runner.max_iters


@pytest.mark.parametrize('has_it', [True, False])
def test_bfloat16_is_used_where_the_cpu_has_it(cfg, monkeypatch, has_it):
    monkeypatch.setattr(precision, 'has_bfloat16', lambda: has_it)
    cfg.optim_wrapper.update(type='AmpOptimWrapper', dtype='bfloat16')
    runner, used = build(cfg), []
    runner.model.register_forward_pre_hook(
        lambda *_: used.append(torch.is_autocast_enabled('cpu'))
    )
    runner.train()
    assert used == [has_it] * runner.max_iters
    assert ('training runs in float32' in log_of(runner)) is not has_it
    assert all(p.dtype == torch.float32 for p in runner.model.parameters())


@pytest.mark.parametrize('steps', [0, 1.5, '2'])
def test_a_step_has_a_whole_number_of_batches(cfg, steps):
    cfg.optim_wrapper.accumulative_counts = steps
    runner = PixConRunner.from_cfg(cfg)
    with pytest.raises(UserError, match='must be a whole number above 0'):
        runner.train()


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
    assert log.count(f'total batch {total} = 1 process x {batch} images') == 1
    assert log.count('x 2 accumulated batches;') == (steps == 2)
    assert log.count(f'8 images, {8 // batch} iterations per epoch') == 1
    assert log.count('learning rate 0.4;') == 1
    about = [x for x in log.splitlines() if 'The total batch is' in x]
    assert len(about) == warnings
    for line in about:
        assert 'WARNING' in line
        assert f'is {total}, ' in line
        assert f'--total-batch {recipe}' in line
        assert f'{0.4 * total / recipe:g}.' in line


@pytest.mark.parametrize(
    ('size', 'rows', 'advice'),
    [(8, 8, None), (8, 9, 2), (12, 13, 2), (4, 5, 1)],
)
def test_a_queue_for_more_images_than_there_are(cfg, size, rows, advice):
    """The advice is a quarter of the images, in whole batches of two."""
    cfg.train_dataloader.dataset.size = size
    runner = build(cfg)
    runner.cfg.model.queue_len = rows
    runner.train()
    log = log_of(runner)
    assert (f'{rows} rows for {size} images' in log) == bool(advice)
    assert (f'model.queue_len={advice}.' in log) == bool(advice)


def test_an_epoch_of_an_endless_sampler_is_that_of_all_processes(cfg):
    count_iterations(cfg, 2)
    runner = build(cfg)
    runner._world_size = 3
    runner._train_loop = runner.build_train_loop(cfg.train_cfg)
    runner.optim_wrapper = runner.build_optim_wrapper(cfg.optim_wrapper)
    RunSummaryHook().before_train(runner)
    assert '8 images, 2 iterations per epoch, 2 in all;' in log_of(runner)


def test_auto_scale_lr_counts_accumulation(cfg):
    cfg.optim_wrapper.accumulative_counts = 2
    cfg.auto_scale_lr = dict(enable=True, base_batch_size=16)
    runner, log = train(cfg)
    assert runner.optim_wrapper.param_groups[0]['initial_lr'] == 0.1
    assert log.count('learning rate 0.1;') == 1
    assert 'WARNING - The total batch' not in log


def test_auto_scale_lr_scales_the_rate_in_the_log(cfg):
    """With several groups, MMEngine logs a base rate beside them."""
    cfg.optim_wrapper.paramwise_cfg = dict(bias_lr_mult=2.0)
    cfg.auto_scale_lr = dict(enable=True, base_batch_size=8)
    runner, _ = train(cfg)
    groups = runner.optim_wrapper.param_groups
    assert {group['initial_lr'] for group in groups} == {0.1, 0.2}
    assert groups[-1] is runner.optim_wrapper.base_param_settings
    assert groups[-1]['initial_lr'] == 0.1


@pytest.mark.parametrize(
    ('steps', 'average', 'is_warned'),
    [(2, True, True), (1, True, False), (2, False, False)],
)
def test_a_momentum_encoder_that_does_not_wait_for_the_step(
    cfg, steps, average, is_warned
):
    """As those of MMPretrain's DenseCL and BYOL."""
    cfg.optim_wrapper.accumulative_counts = steps
    runner = build(cfg)
    if average:
        runner.model.encoder_k = ExponentialMovingAverage(nn.Linear(1, 1))
    runner.train()
    assert ('(encoder_k) in every batch' in log_of(runner)) == is_warned


def test_batch_of_a_batch_sampler(cfg):
    cfg.train_dataloader.pop('drop_last')
    cfg.train_dataloader.batch_sampler = dict(type='ToyBatchSampler')
    _, log = train(cfg)
    assert log.count('total batch 2 = 1 process x 2 images') == 1
    assert log.count('img/s') == 8


def test_fewer_images_than_a_batch(cfg):
    cfg.train_dataloader.batch_size = 9
    with pytest.raises(
        UserError, match='8 images, too few for a batch of 9 in'
    ):
        train(cfg)
    # A loop over iterations may draw from few images.
    count_iterations(cfg, 2)
    runner, log = train(cfg)
    assert runner.iter == 2
    assert log.count('iteration 2/2') == 1
    # From none it would draw for ever.
    cfg.train_dataloader.dataset.size = 0
    runner = build(cfg)
    with pytest.raises(UserError, match='training set has 0 images'):
        runner.build_train_loop(runner._train_loop)


@pytest.mark.parametrize('by_epoch', [True, False])
def test_a_run_without_iterations_is_refused(cfg, by_epoch):
    if by_epoch:
        cfg.train_cfg.max_epochs = 0
    else:
        count_iterations(cfg, 0)
    with pytest.raises(UserError, match='would have no iteration'):
        train(cfg)


def test_iterations_of_accumulated_batches_are_explained(cfg):
    """The total batch is the recipe's, the number of steps is not."""
    cfg.optim_wrapper.accumulative_counts = 2
    _, log = train(cfg)
    assert 'Iterations count batches' not in log
    count_iterations(cfg, 3)
    _, log = train(cfg)
    assert '3 in all with 2 steps of the optimiser' in log
    assert log.count('a step of the optimiser takes 2. For as') == 1


def test_processes_that_see_other_files(cfg, monkeypatch):
    """One machine has a part of the images only."""
    runner = build(cfg)
    monkeypatch.setattr(
        runner_module, 'all_gather_object', lambda size: [size, size, 7]
    )
    with pytest.raises(UserError, match='8 images for process 0 and 7 for pr'):
        runner.build_train_loop(runner._train_loop)


@pytest.mark.parametrize('launcher', ['slurm', 'mpi'])
def test_launchers_that_need_cuda_say_so(launcher):
    runner = PixConRunner.__new__(PixConRunner)
    runner._launcher, runner._distributed = launcher, True
    with pytest.raises(UserError, match=f'{launcher!r} needs CUDA'):
        runner.setup_env({})


@pytest.mark.parametrize('rank', [2, 3])
def test_more_processes_than_gpus(monkeypatch, rank):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    monkeypatch.setenv('LOCAL_RANK', str(rank))
    runner = PixConRunner.__new__(PixConRunner)
    runner._launcher, runner._distributed = 'pytorch', True
    with pytest.raises(UserError, match='has 2 GPUs for') as caught:
        runner.setup_env({})
    # One of them is shown.
    assert caught.value.is_own == (rank == 2)


def test_a_schedule_longer_than_the_run_is_reported(cfg):
    _, log = train(cfg)
    assert 'but param_scheduler.' not in log
    cfg.train_cfg.max_epochs = 1
    _, log = train(cfg)
    assert 'The run has 4 iterations, but param_scheduler.0 (Cosine' in log
    assert log.count('is for 8: override its end') == 1
    steps = dict(type='MultiStepLR', by_epoch=False, milestones=[2, 6])
    cfg.param_scheduler = [steps]
    _, log = train(cfg)
    assert log.count('(MultiStepLR) is for 6: override its end') == 1


def test_a_run_with_nothing_to_resume_says_so(cfg):
    cfg.resume = True
    _, log = train(cfg)
    assert log.count('to resume: the run starts from the beginning') == 1


@pytest.mark.parametrize(
    ('dtype', 'expected'),
    [('float16', 'dynamic'), ('bfloat16', dict(enabled=False))],
)
def test_only_float16_is_scaled(monkeypatch, dtype, expected):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    wrapper = dict(type='AmpOptimWrapper', dtype=dtype, loss_scale='dynamic')
    fitted = precision.fit_precision(wrapper)
    assert fitted == dict(wrapper, loss_scale=expected)


def test_a_dtype_is_checked_without_a_gpu_too():
    with pytest.raises(UserError, match="dtype='bf16', .* bfloat16"):
        precision.fit_precision(dict(type='AmpOptimWrapper', dtype='bf16'))


@pytest.mark.parametrize('address', ['https://host/a.pth', 's3://host/a.pth'])
def test_addresses_are_not_fetched(cfg, monkeypatch, address):
    monkeypatch.setattr(socket, 'socket', None)
    cfg.load_from = address
    with pytest.raises(
        UserError, match=f'from local files: download {address}'
    ):
        train(cfg)


def test_weights_are_loaded_as_far_as_they_fit(cfg, tmp_path):
    runner, _ = train(cfg)
    weights = runner.model.state_dict()
    path, saved = tmp_path / 'weights.pth', dict(weights)
    saved['linear.weight'] = torch.zeros(9, 4)
    saved['head.weight'] = torch.zeros(1)
    del saved['norm.bias']
    torch.save(
        {f'module.{name}': tensor for name, tensor in saved.items()}, path
    )
    torch.manual_seed(9)
    runner = build(cfg)
    before = {n: t.clone() for n, t in runner.model.state_dict().items()}
    runner.load_checkpoint(str(path))
    for name, tensor in runner.model.state_dict().items():
        fits = name not in ('linear.weight', 'norm.bias')
        assert torch.equal(tensor, (weights if fits else before)[name])
    log = log_of(runner)
    assert f'{len(weights) - 2}/{len(weights)} tensors from {path}' in log
    assert '2 tensors of the model start random, because ' in log


def test_weights_that_do_not_fit_at_all_are_refused(cfg, tmp_path):
    path = tmp_path / 'weights.pth'
    torch.save({'conv1.weight': torch.zeros(1)}, path)
    cfg.load_from = str(path)
    with pytest.raises(UserError, match='none of the 1 tensors .* fits'):
        train(cfg)


@pytest.mark.parametrize('key', ['load_from', 'resume'])
def test_values_that_are_not_finite_are_refused(cfg, tmp_path, key):
    runner, _ = train(cfg)
    path = tmp_path / 'epoch_1.pth'
    saved = torch.load(
        Path(runner.work_dir) / 'epoch_1.pth', weights_only=True
    )
    saved['state_dict']['norm.running_var'][1] = torch.nan
    torch.save(saved, path)
    cfg.load_from, cfg.resume = str(path), key == 'resume'
    words = r'1 of 7 tensors holds NaN .* norm.running_var \(1 of its 3 '
    with pytest.raises(UserError, match=words):
        train(cfg)


def test_deterministic_runs_set_what_cuda_needs(cfg, monkeypatch):
    name = 'CUBLAS_WORKSPACE_CONFIG'
    monkeypatch.setenv(name, 'restored by monkeypatch')
    for is_deterministic in (False, True):
        monkeypatch.delenv(name, raising=False)
        cfg.randomness = dict(seed=0, deterministic=is_deterministic)
        try:
            build(cfg)
        finally:
            torch.use_deterministic_algorithms(False)
            torch.backends.cudnn.deterministic = False
        assert (name in os.environ) == is_deterministic


@MODELS.register_module()
class MaskedModel(toy.ToyModel):
    """Has a buffer that is never finite."""

    def __init__(self):
        super().__init__()
        self.register_buffer('mask', torch.tensor([0, -torch.inf]))


@pytest.mark.parametrize('hooks', [[], [dict(type='EMAHook')]])
def test_a_mask_of_minus_infinity_may_be_saved_and_loaded(cfg, hooks):
    """Also that of an averaged model."""
    cfg.model.type, cfg.custom_hooks = 'MaskedModel', hooks
    runner, _ = train(cfg)
    path = Path(runner.work_dir) / 'epoch_1.pth'
    for cfg.resume in (False, True):
        cfg.load_from = str(path)
        runner, _ = train(cfg)
        # From weights alone it is a new run.
        assert runner.iter == 8
        assert runner.model.steps == (4 if cfg.resume else 8)
        assert runner.unbounded == {'mask'}
        assert runner.model.mask.tolist() == [0, -torch.inf]


@pytest.mark.parametrize('resume', [False, True])
def test_code_in_a_checkpoint_is_refused(cfg, tmp_path, resume):
    path = tmp_path / 'epoch_9.pth'
    torch.save(dict(state_dict={}, extra=toy.Code(tmp_path)), path)
    cfg.load_from, cfg.resume = str(path), resume
    with pytest.raises(UserError, match='could run code'):
        train(cfg)
    assert not (tmp_path / 'code was run').exists()
