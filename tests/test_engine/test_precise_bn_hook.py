"""Statistics of all batches, for the weights that are tested."""

import re
from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from torch import nn

from pixcon_mm.engine.hooks import precise_bn_hook
from pixcon_mm.engine.hooks.precise_bn_hook import PreciseBatchNormHook
from tests.commands import sentence_of
from tests.test_engine.runs import (
    ITERATIONS,
    NEVER,
    At,
    Killed,
    config,
    is_same,
    names,
    resume,
    state,
    train,
)


class Net(BaseModel):
    """Two batch norms, the second behind the first."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
        self.frozen = nn.BatchNorm1d(3).eval()

    def forward(self, inputs, mode):
        assert mode == 'loss'
        assert not torch.is_grad_enabled()
        return self.second(torch.relu(self.first(inputs)))


@pytest.fixture
def batches():
    generator = torch.Generator().manual_seed(0)
    return [
        dict(inputs=i + (i + 1) * torch.randn(8, 3, generator=generator))
        for i in range(4)
    ]


def run(model, batches, iteration=39, num_batches=4, max_iters=40):
    runner = SimpleNamespace(
        iter=iteration,
        max_iters=max_iters,
        model=model,
        logger=MMLogger('precise_bn'),
        train_loop=SimpleNamespace(dataloader_iterator=iter(batches)),
        optim_wrapper=OptimWrapper(torch.optim.SGD(model.parameters(), lr=1)),
    )
    hook = PreciseBatchNormHook(num_batches=num_batches)
    hook.after_train_iter(runner, batch_idx=iteration)


def test_moments_over_all_batches(batches):
    model = Net()
    weights = [p.clone() for p in model.parameters()]
    run(model, batches)
    inputs = torch.stack([batch['inputs'] for batch in batches]).double()
    # Variance about the mean of all, not the mean of the variances.
    mean = inputs.mean((0, 1))
    square = (inputs.var(1) + inputs.mean(1) ** 2).mean(0)
    torch.testing.assert_close(model.first.running_mean.double(), mean)
    torch.testing.assert_close(
        model.first.running_var.double(), square - mean**2
    )
    # The second layer sees what the first gives in training.
    hidden = [
        torch.relu((x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt())
        for x in inputs
    ]
    torch.testing.assert_close(
        model.second.running_mean.double(),
        torch.stack(hidden).mean((0, 1)),
        rtol=1e-5,
        atol=1e-6,
    )
    assert model.first.momentum == model.second.momentum == 0.1
    for new, old in zip(model.parameters(), weights, strict=True):
        assert torch.equal(new, old)


def test_only_after_the_last_iteration_and_not_for_frozen_layers(batches):
    model = Net()
    run(model, batches, iteration=38)
    assert not model.first.running_mean.any()
    run(model, batches, num_batches=2)
    assert model.first.running_mean.any()
    assert not model.frozen.running_mean.any()
    # Without any that are trained, no batch is loaded.
    left = iter(batches)
    run(Net().eval(), left)
    assert len([*left]) == 4


@pytest.mark.parametrize(('length', 'count'), [(4, 1), (39, 3), (400, 4)])
def test_a_short_run_takes_fewer_batches(batches, length, count):
    used = iter(batches)
    run(Net(), used, length - 1, max_iters=length)
    assert len(list(used)) == 4 - count


def test_progress_is_logged(batches, monkeypatch, capsys):
    monkeypatch.setattr(precise_bn_hook, 'PAUSE', -1)
    run(Net(), batches)
    shown = capsys.readouterr().out
    assert re.findall(r'batch (\d)/4\n', shown) == ['1', '2', '3', '4']


def test_a_run_in_epochs_is_refused_at_the_start(tmp_path):
    text = sentence_of(train, config(tmp_path, 'run'), PreciseBatchNormHook())
    assert 'this one counts epochs: leave it out' in text
    assert not names(tmp_path / 'run')


def test_a_regular_checkpoint_before_the_last_iteration_stays(tmp_path):
    def cfg(iterations):
        length = dict(train_cfg=dict(max_iters=iterations))
        return config(tmp_path, 'run', ITERATIONS, NEVER, length)

    train(cfg(7), PreciseBatchNormHook())
    for last in 8, 9:
        runner, _ = resume(cfg(last), None, PreciseBatchNormHook())
        assert names(runner) == [f'iter_{n}.pth' for n in range(7, last + 1)]


def test_a_run_killed_during_the_estimate_resumes_to_the_same_end(tmp_path):
    def kill(runner):
        raise Killed

    changes = (ITERATIONS, NEVER)
    whole, _ = train(
        config(tmp_path, 'whole', *changes), PreciseBatchNormHook()
    )
    cfg = config(tmp_path, 'part', *changes)
    with pytest.raises(Killed):
        train(cfg, PreciseBatchNormHook(), At(8, kill))
    assert names(tmp_path / 'part') == ['iter_7.pth']
    resumed, _ = resume(cfg, None, PreciseBatchNormHook())
    assert names(resumed) == ['iter_8.pth']
    assert is_same(state(whole), state(resumed))


def test_averages_of_the_weights_are_refused(tmp_path):
    cfg = config(tmp_path, 'run', ITERATIONS)
    cfg.custom_hooks = [
        dict(type='PreciseBatchNormHook'),
        dict(type='EMAHook'),
    ]
    assert 'EMAHook tests and saves their average' in sentence_of(train, cfg)
