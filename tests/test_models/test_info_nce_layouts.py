"""InfoNCE of rows of any strides, offset and number, on any device."""

import math

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from pixcon_mm.models.info_nce import (
    BACKENDS,
    attend_chunked,
    attend_fused,
    has_fused_kernel,
    kernel_input,
)
from tests.test_models.test_info_nce import loss_and_grad, unit


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
    contiguous=torch.Tensor.contiguous,
    transposed=lambda rows: rows.T.contiguous().T,
    strided=lambda rows: spaced(rows, 2),
    padded=lambda rows: spaced(rows, 1, extra=5),
    offset=offset,
    expanded=lambda rows: rows[:1].expand_as(rows),
    one_number=lambda rows: rows[:1, :1].expand_as(rows),
)
# Rows, queue length, channels.
SHAPES = [(9, 77, 16), (1, 77, 16), (9, 1, 16), (5, 40, 13), (4, 7, 1)]
SHAPES += [(1, 1, 1), (0, 7, 8), (33, 700, 24)]
ANYWHERE = [
    ('cpu', torch.float64),
    ('cpu', torch.float32),
    ('cpu', torch.bfloat16),
    *(
        pytest.param('cuda', dtype, marks=pytest.mark.gpu)
        for dtype in (torch.float32, torch.float16, torch.bfloat16)
    ),
]


# Of sums of up to 3000 terms and logits of up to 5, by the products' dtype.
ROUNDING = {
    torch.float64: 1e-12,
    torch.float32: 2e-5,
    torch.float16: 6e-3,
    torch.bfloat16: 5e-2,
}


def close_to(dtype):
    return dict(rtol=ROUNDING[dtype], atol=ROUNDING[dtype])


@pytest.mark.parametrize(('device', 'dtype'), ANYWHERE)
@pytest.mark.parametrize('backend', BACKENDS)
@pytest.mark.parametrize('layout', LAYOUTS)
@pytest.mark.parametrize('of', ['query', 'positive', 'queue', 'all'])
def test_layout_does_not_matter(of, layout, backend, device, dtype):
    half = dtype.itemsize == 2
    wide = torch.float32 if half else dtype
    for size, length, channels in SHAPES:
        rows = dict(query=size, positive=size, queue=length)
        for name, count in rows.items():
            rows[name] = unit(count, channels, wide).to(device)
            if of in (name, 'all'):
                rows[name] = LAYOUTS[layout](rows[name])
        exact = [part.double().contiguous() for part in rows.values()]
        loss, grad = loss_and_grad(*exact, 0.2, 'naive')
        with torch.autocast(device, dtype, enabled=half):
            ours, our_grad = loss_and_grad(*rows.values(), 0.2, backend)
        assert ours.dtype == our_grad.dtype == wide
        torch.testing.assert_close(ours.double(), loss, **close_to(dtype))
        torch.testing.assert_close(our_grad.double(), grad, **close_to(dtype))


@pytest.mark.parametrize(('device', 'dtype'), ANYWHERE)
@pytest.mark.parametrize('channels', [1, 12, 13, 128, 300])
def test_the_probe_speaks_for_every_size(channels, device, dtype):
    if not has_fused_kernel(torch.empty(0, channels, device=device), dtype):
        pytest.skip('no kernel')
    for size, length in ((0, 8), (1, 1), (1, 3000), (700, 1), (700, 3000)):
        query, queue = (
            unit(count, channels).to(device, dtype) for count in (size, length)
        )
        log_sum, mean = attend_fused(query, queue, 0.2)
        exact = attend_chunked(query.double(), queue.double(), 0.2)
        close = close_to(dtype)
        torch.testing.assert_close(log_sum.double(), exact[0], **close)
        torch.testing.assert_close(mean.double(), exact[1], **close)


@pytest.mark.skipif(
    not torch.backends.cuda.is_built(), reason='PyTorch built without CUDA'
)
@pytest.mark.parametrize('channels', [8, 13])
@pytest.mark.parametrize('layout', LAYOUTS)
def test_rows_for_cuda_are_packed_padded_and_aligned(layout, channels):
    with FakeTensorMode():
        rows = torch.empty(9, channels, device='cuda', dtype=torch.float16)
        rows = LAYOUTS[layout](rows)
        given = kernel_input(rows)
        width = given.shape[3]
        assert given.shape == (1, 1, 9, 8 * math.ceil(channels / 8))
        assert given.stride()[2:] == (width, 1)
        assert given.storage_offset() * given.element_size() % 16 == 0
        if layout == 'contiguous' and channels == 8:
            assert given._base is rows
