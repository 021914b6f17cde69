"""Variants, backbones, monitors and mistakes of the whole model."""

import copy

import pytest
import torch

from pixcon_mm.errors import UserError
from tests.test_models import tiny
from tests.test_models.tiny import losses


def test_moco_has_no_dense_branch():
    model = tiny.build(loss_lambda=0)
    assert not any('dense' in name for name, _ in model.named_parameters())
    assert model.dense_queue is None
    result = losses(model)
    assert list(result) == ['loss_image']
    sum(result.values()).backward()
    model.after_optimizer_step(0.0)
    assert model.image_queue.count == 4
    assert 'overlap' not in model.monitors


@pytest.mark.parametrize('loss_lambda', [0, 0.5, 1.0])
@pytest.mark.parametrize(
    'head', [{}, dict(reweight=None), dict(matching='coordinate')]
)
def test_every_trained_parameter_gets_a_gradient(loss_lambda, head):
    """DDP runs with find_unused_parameters=False."""
    model = tiny.build(loss_lambda=loss_lambda, head=head)
    sum(losses(model).values()).backward()
    for name, p in model.named_parameters():
        assert (p.grad is not None) == p.requires_grad, name
        assert p.requires_grad != name.startswith('key_encoder'), name


def test_lambda_weighs_the_two_losses():
    half, most = tiny.build(loss_lambda=0.5), tiny.build(loss_lambda=0.75)
    most.load_state_dict(half.state_dict())
    at_half, at_most = losses(half), losses(most)
    for name, factor in dict(loss_dense=1.5, loss_image=0.5).items():
        torch.testing.assert_close(at_most[name], at_half[name] * factor)


def test_any_input_size():
    """A grid of 3 x 5 cells, not square."""
    data = tiny.batch()
    data['inputs'] = [v.repeat(1, 1, 1, 2)[..., :160] for v in data['inputs']]
    assert torch.isfinite(losses(tiny.build(), data)['loss_dense'])


def test_accumulation_equals_one_large_enqueue():
    """Both queues are read before they are written, once a step."""
    model = tiny.build()
    before = copy.deepcopy(model.state_dict())
    first, _ = (losses(model, tiny.batch(seed=seed)) for seed in (0, 1))
    again = losses(model, tiny.batch(seed=0))
    torch.testing.assert_close(first, again)
    model.after_optimizer_step(0.0)
    assert model.image_queue.count == model.dense_queue.count == 12
    for name, value in model.key_encoder.named_parameters():
        # The query has not moved, so neither has the key.
        assert torch.equal(value, before[f'key_encoder.{name}']), name
        assert torch.equal(value, before[name]), name


@pytest.mark.parametrize('accumulate', [1, 3])
@pytest.mark.parametrize('has_hook', [True, False])
def test_a_missing_hook_is_found_at_the_second_step(has_hook, accumulate):
    model = tiny.build()
    sgd = tiny.sgd(model, lr=0.1, fused=True)
    for _ in range(accumulate):
        sum(losses(model).values()).backward()
    sgd.step()
    if has_hook:
        model.after_optimizer_step(0.0)
        losses(model)
    else:
        with pytest.raises(UserError, match='KeyEncoderUpdateHook'):
            losses(model)


def test_monitors_are_what_they_say():
    model, data = tiny.build(), tiny.batch()
    boxes = torch.tensor([0.0, 0.0, 96.0, 96.0]).expand(4, 2, 4)
    data['data_samples']['crop_boxes'] = boxes
    losses(model, data)
    monitors = model.monitors
    assert monitors['overlap'] == monitors['weight'] == 1
    assert -1 <= monitors['pos_sim'] <= 1
    assert 0 < monitors['feature_std'] < 1.1
    # ln K plus half the variance of N(0, 1/C) / tau.
    expected = torch.tensor(96.0).log() + 0.5 / 16 / 0.2**2
    assert abs(monitors['neg_logsumexp'] - expected) < 0.3


@pytest.mark.parametrize('name', ['predictor', 'dense_predictor'])
def test_equal_features_show_as_collapse(name):
    model = tiny.build()
    predictor = getattr(model.head, name)
    torch.nn.init.zeros_(predictor[3].weight)
    losses(model)
    assert model.monitors['feature_std'] < 1e-3


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(loss_lambda=2), 'loss_lambda=2'),
        (dict(base_momentum=0.99), 'base_momentum=0.99 .* 1 - m'),
        (dict(queue_length=4), 'queue_length'),
    ],
)
def test_wrong_settings_are_refused(kwargs, message):
    with pytest.raises((UserError, TypeError), match=message):
        tiny.build(**kwargs)
