"""Every backend of InfoNCE against cross-entropy over built logits."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from mmpretrain.registry import MODELS

from pixcon_mm.errors import UserError
from pixcon_mm.models import info_nce as module
from pixcon_mm.models.info_nce import (
    BACKENDS,
    QueueInfoNCELoss,
    info_nce,
)

TOLERANCE = {torch.float64: 1e-12, torch.float32: 1e-5}


def unit(rows, channels=128, dtype=torch.float64):
    return F.normalize(torch.randn(rows, channels, dtype=dtype), dim=1)


def by_hand(query, positive, queue, temperature):
    """The loss of each row, one number at a time in one exponent sum."""
    rows = []
    for q, k in zip(query, positive, strict=True):
        top = torch.exp(q @ k / temperature)
        rest = sum(torch.exp(q @ n / temperature) for n in queue)
        rows.append(-torch.log(top / (top + rest)))
    return torch.stack(rows)


@pytest.mark.parametrize('dtype', TOLERANCE)
@pytest.mark.parametrize('backend', ['fused', 'chunked', 'naive', 'auto'])
@pytest.mark.parametrize('length', [1, 77, 2048, 5000])
def test_equals_cross_entropy(backend, length, dtype):
    query = unit(9, dtype=dtype).requires_grad_()
    positive, queue = unit(9, dtype=dtype), unit(length, dtype=dtype)
    positive.requires_grad_()
    queue.requires_grad_()
    weight = torch.rand(9, dtype=dtype)

    logits = torch.cat([(query * positive).sum(1, True), query @ queue.T], 1)
    expected = F.cross_entropy(
        logits / 0.2, torch.zeros(9, dtype=torch.long), reduction='none'
    )
    (expected_grad,) = torch.autograd.grad((weight * expected).sum(), query)

    result = info_nce(query, positive, queue, 0.2, backend)
    (weight * result.loss).sum().backward()
    close = dict(rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])
    torch.testing.assert_close(result.loss, expected, **close)
    torch.testing.assert_close(query.grad, expected_grad, **close)
    assert positive.grad is None
    assert queue.grad is None
    torch.testing.assert_close(
        result.positive, (query * positive).sum(1).detach() / 0.2, **close
    )
    torch.testing.assert_close(
        result.negatives, (query @ queue.T / 0.2).logsumexp(1).detach(),
        **close,
    )  # fmt: skip


def loss_and_grad(query, *args):
    query = query.detach().requires_grad_()
    loss = info_nce(query, *args).loss
    return loss.detach(), *torch.autograd.grad(loss.sum(), query)


@settings(max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    temperature=st.floats(1e-4, 100),
    backend=st.sampled_from(BACKENDS),
    agree=st.sampled_from([-1, 0, 1]),
    length=st.integers(1, 70),
)
def test_loss_of_unit_rows_is_bounded(
    seed, temperature, backend, agree, length
):
    """Logits within 1/tau; positives equal, opposite or by chance."""
    torch.manual_seed(seed)
    query = unit(5, 8, torch.float32)
    positive = agree * query if agree else unit(5, 8, torch.float32)
    queue = unit(length, 8, torch.float32)
    queue[0] = query[0]
    loss, grad = loss_and_grad(query, positive, queue, temperature, backend)
    bound = 1.001 * (2 / temperature + math.log(length + 1))
    assert ((loss >= 0) & (loss <= bound)).all(), loss
    assert (grad.norm(dim=1) <= 2.001 / temperature).all(), grad


@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('part', [0, 1, 2])
def test_nan_shows_in_the_loss(part, backend):
    """Affect its own row; all rows if it is in the queue."""
    rows = [unit(5, 8), unit(5, 8), unit(40, 8)]
    rows[part][2, 3] = math.nan
    loss, grad = loss_and_grad(*rows, 0.2, backend)
    expected = torch.full((5,), part == 2)
    expected[2] = True
    assert torch.equal(loss.isnan(), expected)
    assert torch.equal(grad.isnan().any(1), expected)


def test_equals_the_definition():
    query, positive, queue = unit(4, 8), unit(4, 8), unit(11, 8)
    torch.testing.assert_close(
        info_nce(query, positive, queue, 0.2, 'chunked').loss,
        by_hand(query, positive, queue, 0.2),
        rtol=1e-12,
        atol=1e-12,
    )


@pytest.mark.parametrize('temperature', [0.01, 0.07, 1.0])
@pytest.mark.parametrize('backend', ['fused', 'chunked'])
def test_sharp_temperatures_stay_finite(backend, temperature):
    query, queue = unit(5, dtype=torch.float32), unit(300, dtype=torch.float32)
    ours = info_nce(query, query, queue, temperature, backend)
    naive = info_nce(query, query, queue, temperature, 'naive')
    torch.testing.assert_close(ours.loss, naive.loss, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('backend', ['fused', 'chunked'])
def test_gradient_of_the_closed_form(backend):
    query, positive, queue = unit(3, 16), unit(3, 16), unit(50, 16)
    assert torch.autograd.gradcheck(
        lambda q: info_nce(q, positive, queue, 0.2, backend).loss,
        query.requires_grad_(),
    )


@pytest.mark.parametrize('backend', ['fused', 'chunked'])
def test_autocast_keeps_the_loss_in_float32(backend):
    query, positive = (
        unit(6, dtype=torch.float32),
        unit(6, dtype=torch.float32),
    )
    queue = unit(3000, dtype=torch.float32)
    query.requires_grad_()
    exact = info_nce(query, positive, queue, 0.2, 'naive')
    (exact_grad,) = torch.autograd.grad(exact.loss.sum(), query)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        rough = info_nce(query, positive, queue, 0.2, backend)
    (grad,) = torch.autograd.grad(rough.loss.sum(), query)
    assert rough.loss.dtype == grad.dtype == torch.float32
    # bfloat16 has 8 bits: the log-sum of many terms averages the rounding.
    torch.testing.assert_close(rough.loss, exact.loss, rtol=5e-3, atol=5e-3)
    torch.testing.assert_close(grad, exact_grad, rtol=2e-2, atol=2e-2)


def test_auto_falls_back_where_there_is_no_kernel(monkeypatch):
    def missing(*args):
        raise NotImplementedError

    monkeypatch.setattr(module, 'attend_fused', missing)
    monkeypatch.setattr(module, '_FUSED', {})
    query, queue = unit(4), unit(40)
    torch.testing.assert_close(
        info_nce(query, query, queue, 0.2, 'auto').loss,
        info_nce(query, query, queue, 0.2, 'naive').loss,
    )


def test_fused_builds_nothing_of_queue_size():
    """Only tensors of N x C are saved for the backward pass."""
    query, positive, queue = unit(8).requires_grad_(), unit(8), unit(9000)
    saved = []
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: saved.append(t.numel()) or t, lambda t: t
    ):
        info_nce(query, positive, queue, 0.2, 'fused').loss.sum()
    assert sum(saved) <= 8 * 128 * 2


@pytest.mark.parametrize(
    'setting', [dict(backend='fast'), dict(temperature=0.0)]
)
def test_wrong_settings_say_so(setting):
    with pytest.raises(UserError, match='QueueInfoNCELoss'):
        QueueInfoNCELoss(**setting)


def test_is_registered():
    loss = MODELS.build(dict(type='mmpretrain.QueueInfoNCELoss'))
    assert 'temperature=0.2' in repr(loss)


@pytest.mark.gpu
@pytest.mark.parametrize(
    'dtype', [torch.float32, torch.float16, torch.bfloat16]
)
def test_fused_on_cuda(dtype):
    query = unit(1000, dtype=torch.float32).cuda().requires_grad_()
    positive = unit(1000, dtype=torch.float32).cuda()
    queue = unit(65536, dtype=torch.float32).cuda()
    exact = info_nce(query, positive, queue, 0.2, 'naive')
    (exact_grad,) = torch.autograd.grad(exact.loss.sum(), query)
    assert module.has_fused_kernel(query, dtype)
    with torch.autocast('cuda', dtype, enabled=dtype != torch.float32):
        ours = info_nce(query, positive, queue, 0.2, 'fused')
    (grad,) = torch.autograd.grad(ours.loss.sum(), query)
    eps = torch.finfo(dtype).eps
    # The reference is float32 itself, and log-sums of about 11 round.
    atol = max(4 * eps, 1e-5)
    torch.testing.assert_close(ours.loss, exact.loss, rtol=0, atol=atol)
    torch.testing.assert_close(grad, exact_grad, rtol=0, atol=8 * eps)
