"""Steps in mixed precision, with accumulated gradients, against float64."""

import pytest
import torch
from mmengine.optim import AmpOptimWrapper

from pixcon_mm.engine.model_state import zero_momentum
from pixcon_mm.engine.precision import CpuAmpOptimWrapper
from tests.test_models import tiny

# Matches that follow from features would flip with rounding, and batch norms
# over few embeddings, hardly apart yet, would magnify it.
NORM = dict(type='GN', num_groups=1)
MODEL = dict(
    neck_norm=NORM,
    head=dict(matching='coordinate', max_distance=0.7, norm_cfg=NORM),
)
SGD = dict(lr=0.05, momentum=0.9, weight_decay=1e-4)
STEPS, COUNTS = 2, 2
# Of a narrow backbone; twice the accumulated gradient is off by more than 1.
# On the CPU, autocast to float16 is off by 0.23, to bfloat16 by 0.54.
TOLERANCE = {torch.float16: 0.4, torch.bfloat16: 0.7}


def batches():
    return [tiny.batch(size=6, seed=seed) for seed in range(STEPS * COUNTS)]


def build():
    torch.manual_seed(0)
    return tiny.build(**MODEL)


def wrapper(device, optimizer, dtype=torch.float16, **options):
    """The wrapper that a run gets on this device."""
    if device == 'cpu':
        return CpuAmpOptimWrapper(optimizer=optimizer, **options)
    # From PyTorch's own start, 2 ** 16, gradients of this model overflow in
    # half precision, and the first step would be skipped.
    options.setdefault('loss_scale', dict(init_scale=2.0**14))
    return AmpOptimWrapper(optimizer=optimizer, dtype=dtype, **options)


def exactly():
    """The model after the steps in float64, without any wrapper."""
    model = build().double()
    model.data_preprocessor.double()
    sgd = tiny.sgd(model, **SGD)
    for step, batch in enumerate(batches()):
        data = model.data_preprocessor(batch, True)
        data['inputs'] = [view.double() for view in data['inputs']]
        (sum(model.loss(**data).values()) / COUNTS).backward()
        if step % COUNTS == COUNTS - 1:
            sgd.step()
            sgd.zero_grad()
            model.after_optimizer_step(progress=0.1)
    return model


@pytest.mark.parametrize(
    ('device', 'dtype'),
    [
        ('cpu', torch.bfloat16),
        pytest.param('cuda', torch.float16, marks=pytest.mark.gpu),
        pytest.param('cuda', torch.bfloat16, marks=pytest.mark.gpu),
    ],
)
def test_accumulated_steps(device, dtype):
    model, start = build().to(device), build()
    wrap = wrapper(
        device,
        tiny.sgd(model, fused=True, **SGD),
        dtype,
        accumulative_counts=COUNTS,
    )
    wrap.initialize_count_status(model, 0, STEPS * COUNTS)
    for step, batch in enumerate(batches()):
        losses = model.train_step(batch, wrap)
        assert all(torch.isfinite(loss).all() for loss in losses.values())
        if step % COUNTS == COUNTS - 1:
            model.after_optimizer_step(progress=0.1)
    assert model.image_queue.count == STEPS * COUNTS * 6
    expected = dict(exactly().named_parameters())
    before = dict(start.named_parameters())
    for part in ('backbone', 'neck', 'head', 'key_encoder'):
        moved, should = (
            torch.cat(
                [
                    (p.cpu().double() - before[name].double()).flatten()
                    for name, p in weights.items()
                    if name.startswith(part)
                ]
            )
            for weights in (dict(model.named_parameters()), expected)
        )
        error = (moved - should).norm() / should.norm()
        assert error < TOLERANCE[dtype], part


@pytest.mark.gpu
def test_a_step_that_overflows_is_skipped_and_the_scale_is_halved():
    model = build().cuda()
    sgd, scale = tiny.sgd(model, fused=True, **SGD), dict(init_scale=2.0**40)
    zero_momentum(sgd)
    wrap = wrapper('cuda', sgd, loss_scale=scale)
    before = [p.detach().clone() for p in model.backbone.parameters()]
    model.train_step(batches()[0], wrap)
    assert wrap.loss_scaler.get_scale() == 2.0**39
    for weight, old in zip(model.backbone.parameters(), before, strict=True):
        assert torch.equal(weight, old)
    momenta = [state['momentum_buffer'] for state in sgd.state.values()]
    assert momenta
    assert not any(momentum.any() for momentum in momenta)
