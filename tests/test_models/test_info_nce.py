"""Every backend of InfoNCE against cross-entropy over built logits."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from pixcon_mm.errors import UserError
from pixcon_mm.models import queue_attention as module
from pixcon_mm.models.info_nce import InfoNCETerms, QueueInfoNCELoss, info_nce
from tests import needs_compiler

BACKENDS = ('auto', 'fused', 'chunked')
ANYWHERE = [
    ('cpu', torch.float64),
    ('cpu', torch.float32),
    ('cpu', torch.bfloat16),
    *(
        pytest.param('cuda', dtype, marks=pytest.mark.gpu)
        for dtype in (torch.float32, torch.float16, torch.bfloat16)
    ),
]
# Of sums of up to 5000 terms and logits of up to 5, by the products' dtype.
ROUNDING = {
    torch.float64: 1e-12,
    torch.float32: 2e-5,
    torch.float16: 6e-3,
    torch.bfloat16: 2e-2,
}


def close_to(dtype):
    return dict(rtol=ROUNDING[dtype], atol=ROUNDING[dtype])


def unit(rows, channels=128, dtype=torch.float64):
    return F.normalize(torch.randn(rows, channels, dtype=dtype), dim=1)


def naive(query, positive, queue, temperature):
    """Cross-entropy over built logits: the definition."""
    pos_logit = (query * positive).sum(1, keepdim=True)
    logits = torch.cat([pos_logit, query @ queue.T], 1) / temperature
    target = torch.zeros(len(query), dtype=torch.long, device=query.device)
    loss = F.cross_entropy(logits, target, reduction='none')
    return InfoNCETerms(loss, logits[:, 0], logits[:, 1:].logsumexp(1))


def loss_and_grad(query, *args):
    """Loss and gradient; the last argument is a backend, or 'naive'."""
    query = query.detach().requires_grad_()
    *args, backend = args
    if backend == 'naive':
        loss = naive(query, *args).loss
    else:
        loss = info_nce(query, *args, backend).loss
    return loss.detach(), *torch.autograd.grad(loss.sum(), query)


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32])
@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('length', [1, 77, 2048, 5000])
def test_equals_cross_entropy(backend, length, dtype):
    rows = [unit(n, dtype=dtype).requires_grad_() for n in (9, 9, length)]
    query, positive, queue = rows
    weight = torch.rand(9, dtype=dtype)
    expected = naive(query, positive, queue, 0.2)
    (expected_grad,) = torch.autograd.grad(
        (weight * expected.loss).sum(), query, retain_graph=True
    )
    result = info_nce(query, positive, queue, 0.2, backend)
    (weight * result.loss).sum().backward()
    close = close_to(dtype)
    for part, expected_part in zip(result, expected, strict=True):
        torch.testing.assert_close(part, expected_part, **close)
    torch.testing.assert_close(query.grad, expected_grad, **close)
    assert positive.grad is queue.grad is None


@pytest.mark.parametrize('dtype', [torch.float64, torch.float32])
def test_blocks_of_any_size(dtype, monkeypatch):
    """Chunked, on the CPU: blocks of rows, and longer chunks for few."""
    rows = [unit(n, dtype=dtype) for n in (50, 50, 300)]
    loss, grad = loss_and_grad(*rows, 0.2, 'naive')
    for sizes in [(7, 1, 16), (64, 2**12, 16), (300, 2**19, 1024)]:
        for name, size in zip(('CHUNK', 'BLOCK', 'ROWS'), sizes, strict=True):
            monkeypatch.setattr(module, name, size)
        ours, our_grad = loss_and_grad(*rows, 0.2, 'chunked')
        torch.testing.assert_close(ours, loss, **close_to(dtype))
        torch.testing.assert_close(our_grad, grad, **close_to(dtype))


def test_float32_on_the_cpu_needs_no_onednn(monkeypatch):
    rows = [unit(n, dtype=torch.float32) for n in (9, 9, 300)]
    with_onednn = loss_and_grad(*rows, 0.2, 'auto')

    def missing(*args):
        raise AttributeError('no such operator')

    monkeypatch.setattr(torch.ops.mkldnn, '_linear_pointwise', missing)
    uncached = module.has_onednn_linear.__wrapped__
    monkeypatch.setattr(module, 'has_onednn_linear', uncached)
    assert not module.has_onednn_linear(torch.device('cpu'), torch.float32)
    kind = torch.device('cpu'), torch.float32, 128
    assert module.fastest_backend(*kind) == 'fused'
    without = loss_and_grad(*rows, 0.2, 'auto')
    close = close_to(torch.float32)
    torch.testing.assert_close(with_onednn, without, **close)


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


def test_auto_falls_back_where_there_is_no_kernel(monkeypatch, capsys):
    def missing(*args):
        raise NotImplementedError('no kernel here')

    monkeypatch.setattr(module, 'attend_fused', missing)
    uncached = module.has_fused_kernel.__wrapped__
    monkeypatch.setattr(module, 'has_fused_kernel', uncached)
    query, queue = unit(4), unit(40)
    torch.testing.assert_close(
        info_nce(query, query, queue, 0.2, 'auto').loss,
        naive(query, query, queue, 0.2).loss,
    )
    shown = capsys.readouterr().out
    assert 'without an attention kernel: no kernel here' in shown


@pytest.mark.slow
@needs_compiler
def test_compiled_on_the_cpu():
    rows = [unit(n, dtype=torch.float32) for n in (9, 9, 300)]
    query = rows[0].requires_grad_()
    compiled = torch.compile(lambda *args: info_nce(*args).loss)
    loss = compiled(*rows)
    (grad,) = torch.autograd.grad(loss.sum(), query)
    expected = loss_and_grad(*rows, 0.2, 'naive')
    close = close_to(torch.float32)
    torch.testing.assert_close((loss.detach(), grad), expected, **close)


def test_a_full_device_is_no_missing_kernel(monkeypatch):
    def full(*args):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(module, 'attend_fused', full)
    with pytest.raises(torch.OutOfMemoryError):
        module.has_fused_kernel(torch.device('cpu'), torch.float16, 24)


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
def test_wrong_settings_are_refused(setting):
    with pytest.raises(UserError, match='QueueInfoNCELoss'):
        QueueInfoNCELoss(**setting)


# ---- rows of any strides, offset and number, on any device ---------------


def spaced(rows, step, extra=0):
    """The rows in a larger tensor: every step-th row and column."""
    size, channels = rows.shape
    space = rows.new_full((size * step, channels * step + extra), torch.nan)
    view = space[::step, : channels * step : step]
    return view.copy_(rows)


def offset(rows):
    space = rows.new_full((rows.numel() + 3,), torch.nan)
    return space[3:].view(rows.shape).copy_(rows)


LAYOUTS = dict(
    transposed=lambda rows: rows.T.contiguous().T,
    strided=lambda rows: spaced(rows, 2),
    padded=lambda rows: spaced(rows, 1, extra=5),
    offset=offset,
    expanded=lambda rows: rows[:1].expand_as(rows),
    one_number=lambda rows: rows[:1, :1].expand_as(rows),
)
# Rows, queue length, channels.
SHAPES = [(9, 77, 16), (1, 77, 16), (9, 1, 16), (5, 40, 13), (4, 7, 1)]
SHAPES += [(1, 1, 1), (0, 7, 8), (40, 2500, 130)]


@pytest.mark.parametrize(('device', 'dtype'), ANYWHERE)
@pytest.mark.parametrize('backend', ['auto', 'chunked'])
@pytest.mark.parametrize('layout', LAYOUTS)
def test_layout_does_not_matter(layout, backend, device, dtype):
    half = dtype.itemsize == 2
    wide = torch.float32 if half else dtype
    for size, length, channels in SHAPES:
        rows = [
            LAYOUTS[layout](unit(count, channels, wide).to(device))
            for count in (size, size, length)
        ]
        exact = [part.double().contiguous() for part in rows]
        loss, grad = loss_and_grad(*exact, 0.2, 'naive')
        with torch.autocast(device, dtype, enabled=half):
            ours, our_grad = loss_and_grad(*rows, 0.2, backend)
        assert ours.dtype == our_grad.dtype == wide
        torch.testing.assert_close(ours.double(), loss, **close_to(dtype))
        torch.testing.assert_close(our_grad.double(), grad, **close_to(dtype))


@pytest.mark.parametrize('backend', ['auto', 'chunked'])
def test_half_precision_rounds_logits_alone(backend):
    """Errors of single logits average out, those of whole rows would not."""
    torch.manual_seed(0)
    query, queue = (unit(rows).bfloat16() for rows in (64, 16384))
    log_sum, _ = module.attend(query, queue, 0.2, backend)
    exact = (query.double() @ queue.double().T / 0.2).logsumexp(1)
    torch.testing.assert_close(log_sum.double(), exact, rtol=0, atol=5e-5)


@pytest.mark.gpu
@pytest.mark.parametrize(
    'dtype', [torch.float32, torch.float16, torch.bfloat16]
)
def test_fused_on_cuda(dtype):
    rows = [unit(n, dtype=torch.float32).cuda() for n in (1000, 1000, 65536)]
    exact, exact_grad = loss_and_grad(
        *(part.double() for part in rows), 0.2, 'naive'
    )
    assert module.has_fused_kernel(rows[0].device, dtype, 128)
    with torch.autocast('cuda', dtype, enabled=dtype != torch.float32):
        ours, grad = loss_and_grad(*rows, 0.2, 'fused')
    eps = torch.finfo(dtype).eps
    # Log-sums of about 11 round, in float32.
    close = dict(rtol=0, check_dtype=False)
    torch.testing.assert_close(ours, exact, atol=max(4 * eps, 1e-5), **close)
    torch.testing.assert_close(grad, exact_grad, atol=8 * eps, **close)
