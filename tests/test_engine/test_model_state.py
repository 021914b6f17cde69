"""Gradients are measured as they are, and only where they belong are added."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import EMAHook, Hook
from torch import nn
from torch.nn.utils import clip_grad_norm_

from pixcon_mm.engine.model_state import (
    LayoutCheck,
    check_batch_norms,
    gradient_norm,
    validated_model,
    zero_momentum,
)
from pixcon_mm.errors import UserError
from tests.commands import sentence_of
from tests.test_engine.runs import At, config, train


def layers():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, bias=True), nn.Conv2d(4, 5, 1), nn.Linear(5, 2)
    )


def with_gradients(model, scale=1.0):
    for index, parameter in enumerate(model.parameters()):
        # Some are not part of the loss.
        if index != 3:
            parameter.grad = scale * torch.randn_like(parameter)
    return model


def optimizer_of(model, **options):
    groups = [dict(params=list(layer.parameters())) for layer in model]
    return torch.optim.SGD(groups, **dict(lr=0.1, momentum=0.9), **options)


@pytest.mark.parametrize('scale', [1e-30, 1.0, 1e15, float('inf')])
def test_norm_is_that_of_clip_grad_norm(scale):
    model = with_gradients(layers(), scale)
    found = gradient_norm(optimizer_of(model))
    expected = clip_grad_norm_(model.parameters(), float('inf'))
    torch.testing.assert_close(found, expected, equal_nan=True)
    assert found.shape == ()
    model.zero_grad()
    assert gradient_norm(optimizer_of(model)) == 0


def test_norm_is_as_before_the_loss_scaler():
    """A fused optimiser divides by the scale itself, within its step."""
    model = with_gradients(layers())
    expected = gradient_norm(optimizer_of(model))
    for parameter in model.parameters():
        if parameter.grad is not None:
            parameter.grad *= 1024
    optimizer, seen = optimizer_of(model, fused=True), []
    optimizer.register_step_pre_hook(
        lambda optimizer, *_: seen.append(gradient_norm(optimizer))
    )
    scaler = torch.amp.GradScaler('cpu', init_scale=1024.0)
    scaler.scale(torch.ones(()))  # makes its scale
    scaler.step(optimizer)
    torch.testing.assert_close(seen, [expected])
    assert expected > 0


@pytest.fixture
def filled():
    """Let PyTorch fill memory that it only allocates with NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize('skipped', [0, 3])
def test_skipped_first_steps_leave_no_trace(skipped, filled):
    """The steps after them are those of an SGD that is not fused."""

    def trained(skipped, **options):
        model = layers()
        optimizer = optimizer_of(model, weight_decay=0.01, **options)
        zero_momentum(optimizer)
        scaler = torch.amp.GradScaler('cpu', init_scale=1024.0)
        for step in range(skipped + 3):
            scaler.scale(torch.ones(()))  # makes its scale
            scale = scaler.get_scale() if step >= skipped else float('inf')
            torch.manual_seed(step - skipped)
            with_gradients(model, scale)
            scaler.step(optimizer)
            scaler.update()
        return list(model.parameters())

    expected = trained(0, fused=False)
    torch.testing.assert_close(trained(skipped, fused=True), expected)


def test_a_run_may_skip_its_first_step(tmp_path, filled):
    def skip(runner):
        runner.optim_wrapper.optimizer.found_inf = torch.ones(())

    def go_on(runner):
        runner.optim_wrapper.optimizer.found_inf = torch.zeros(())

    fused = dict(optim_wrapper=dict(optimizer=dict(fused=True)))
    cfg = config(tmp_path, 'run', fused)
    start = Hook()
    start.before_train = skip
    # Values that are not finite would end the run.
    train(cfg, start, At(1, go_on))


@pytest.fixture
def model():
    return layers()


@pytest.fixture
def optimizer(model):
    optimizer = optimizer_of(model)
    LayoutCheck(optimizer, {p: name for name, p in model.named_parameters()})
    return optimizer


def turned(tensor):
    """Copy into the other memory format."""
    return tensor.detach().clone(memory_format=torch.channels_last)


def refused(model, optimizer):
    before = [p.detach().clone() for p in model.parameters()]
    sentence = sentence_of(optimizer.step)
    for parameter, value in zip(model.parameters(), before, strict=True):
        assert torch.equal(parameter, value)
    return sentence


@pytest.mark.parametrize('what', ['gradient', 'momentum buffer'])
def test_a_tensor_laid_out_otherwise_stops_before_the_next_step(
    model, optimizer, what
):
    with_gradients(model)
    weight = model[0].weight
    if what == 'gradient':
        weight.grad = turned(weight.grad)
    else:
        optimizer.step()
        state = optimizer.state[weight]
        state['momentum_buffer'] = turned(state['momentum_buffer'])
    text = refused(model, optimizer)
    assert text.startswith('0.weight of shape (4, 3, 3, 3) has strides (27, 9')
    assert f'its {what} (27, 1, 9, 3)' in text


def test_dimensions_of_size_one_do_not_matter(model, optimizer):
    """A 1x1 convolution lies in memory alike in both formats."""
    with_gradients(model)
    weight = model[1].weight
    assert turned(weight.grad).stride() != weight.grad.stride()
    weight.grad = turned(weight.grad)
    optimizer.step()
    state = optimizer.state[weight]
    state['momentum_buffer'] = turned(state['momentum_buffer'])
    optimizer.step()


def test_a_run_is_checked(tmp_path):
    def turn(runner):
        weight = runner.model.linear.weight
        weight.data = weight.data.t().contiguous().t()

    # Before the second step, whose gradient takes the new strides.
    with pytest.raises(UserError, match=r'linear.weight of shape \(3, 4\)'):
        train(config(tmp_path, 'run'), At(1, turn))


class ActivatedNorm(nn.BatchNorm2d):
    def forward(self, inputs):
        return super().forward(inputs).relu()


def test_sync_bn_would_drop_activations():
    model = nn.Sequential(nn.BatchNorm2d(4), nn.SyncBatchNorm(4))
    check_batch_norms(model)
    model.append(ActivatedNorm(4))
    text = sentence_of(check_batch_norms, model)
    assert '2 is a ActivatedNorm, which does more than normalise' in text


def test_an_average_is_what_is_validated():
    model, average = nn.Linear(1, 1), nn.Linear(1, 1)
    hook = EMAHook()
    hook.ema_model = SimpleNamespace(module=average)
    runner = SimpleNamespace(model=model, hooks=[])
    assert validated_model(runner) is model
    runner.hooks = [hook]
    assert validated_model(runner) is average
