"""RoIAlign, called through mmcv, against a loop over samples."""

import math
from itertools import product
from unittest.mock import Mock

import mmcv.ops
import pytest
import torch
import torchvision

from pixcon_mm.ops import roi_align

# Neither square nor of equal sides, so that swapped axes show.
BATCH, CHANNELS, HEIGHT, WIDTH = 3, 2, 7, 9
SIZE = (3, 2)
TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-12}


def neighbours(position, length):
    """Return the cells around a position, and their shares."""
    if not -1 <= position <= length:
        return []
    position = min(max(position, 0), length - 1)
    low = min(int(position), length - 2)
    return [(low, low + 1 - position), (low + 1, position - low)]


def slow_weights(rois, scale, ratio, aligned):
    """Return how much each cell counts in each bin, as a dense matrix."""
    weights = torch.zeros(len(rois), *SIZE, HEIGHT, WIDTH).double()
    for r, (_, *corners) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (c * scale - 0.5 * aligned for c in corners)
        sides = [y2 - y1, x2 - x1]
        if not aligned:
            sides = [max(side, 1) for side in sides]
        steps = [side / bins for side, bins in zip(sides, SIZE, strict=True)]
        counts = [ratio or math.ceil(step) for step in steps]
        for i, j, a, b in product(*map(range, (*SIZE, *counts))):
            y = y1 + (i + (a + 0.5) / counts[0]) * steps[0]
            x = x1 + (j + (b + 0.5) / counts[1]) * steps[1]
            for (v, share_v), (u, share_u) in product(
                neighbours(y, HEIGHT), neighbours(x, WIDTH)
            ):
                share = share_v * share_u / math.prod(counts)
                weights[r, i, j, v, u] += share
    return weights


def some_rois(scale):
    """Return regions inside, over each border, outside, tiny, empty."""
    cells = torch.tensor(
        [
            [0, 1.3, 0.7, 6.1, 4.9],
            [2, -2.6, 1.2, 3.3, 8.7],
            [1, 4.4, -3.1, 12.2, 2.8],
            [2, -1.7, -1.9, 10.5, 9.6],
            [0, 20.0, 20.0, 24.0, 23.0],
            [1, 3.21, 2.34, 3.26, 2.37],
            [2, 5.0, 4.0, 5.0, 4.0],
            [1, 0.0, 0.0, 9.0, 7.0],
        ]
    ).double()
    cells[:, 1:] /= scale
    return cells


def features(dtype):
    return torch.randn(BATCH, CHANNELS, HEIGHT, WIDTH, dtype=dtype)


@pytest.mark.parametrize('scale', [1 / 16, 1 / 4, 1.0])
@pytest.mark.parametrize('ratio', [0, 1, 2])
@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
@pytest.mark.parametrize(
    'layout', [torch.contiguous_format, torch.channels_last]
)
def test_values_and_gradients(scale, ratio, aligned, dtype, layout):
    input = features(dtype).to(memory_format=layout).requires_grad_()
    rois = some_rois(scale).to(dtype)
    output = mmcv.ops.roi_align(
        input, rois, SIZE, scale, ratio, 'avg', aligned
    )
    weights = slow_weights(rois, scale, ratio, aligned)
    images = input.detach().double()[rois[:, 0].long()]
    expected = torch.einsum('rijvu,rcvu->rcij', weights, images)
    exact = dict(atol=TOLERANCE[dtype], rtol=0)
    torch.testing.assert_close(output.detach().double(), expected, **exact)

    grad = torch.randn_like(output)
    (grad_input,) = torch.autograd.grad(output, input, grad)
    expected = torch.zeros(input.shape).double()
    expected.index_add_(
        0,
        rois[:, 0].long(),
        torch.einsum('rijvu,rcij->rcvu', weights, grad.double()),
    )
    torch.testing.assert_close(grad_input.double(), expected, **exact)
    assert (output.dtype, grad_input.dtype) == (dtype, dtype)


def test_no_rois():
    input = features(torch.float32).requires_grad_()
    output = mmcv.ops.roi_align(input, torch.zeros(0, 5), SIZE, 0.25)
    assert output.shape == (0, CHANNELS, *SIZE)
    output.sum().backward()
    assert torch.equal(input.grad, torch.zeros_like(input))


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('use_autocast', [True, False])
def test_half_precision_is_rounded_once(dtype, use_autocast):
    input = features(dtype).requires_grad_()
    rois = some_rois(0.25).to(dtype)
    single = input.detach().float().requires_grad_()
    with torch.autocast('cpu', dtype, enabled=use_autocast):
        output = mmcv.ops.roi_align(input, rois, SIZE, 0.25)
    expected = mmcv.ops.roi_align(single, rois.float(), SIZE, 0.25)
    assert torch.equal(output, expected.to(dtype))
    grad = torch.randn_like(output)
    output.backward(grad)
    expected.backward(grad.float())
    assert torch.equal(input.grad, single.grad.to(dtype))


def test_rois_of_another_precision():
    input, rois = features(torch.float32), some_rois(0.25)
    output = mmcv.ops.roi_align(input, rois.double(), SIZE, 0.25)
    expected = mmcv.ops.roi_align(input, rois.float(), SIZE, 0.25)
    assert torch.equal(output, expected)


def gradient(rois):
    input = features(torch.float64).requires_grad_()
    output = mmcv.ops.roi_align(input, rois, SIZE, 0.25)
    output.backward(torch.ones_like(output))
    return input.grad


@pytest.mark.parametrize('count', [0, 8])
@pytest.mark.parametrize('has_kernel', [True, False])
def test_gradient_with_and_without_torchvisions_private_kernel(
    monkeypatch, count, has_kernel
):
    rois = some_rois(0.25)[:count]
    # Torchvision's own operator has a gradient of its own.
    input = features(torch.float64).requires_grad_()
    torchvision.ops.roi_align(
        input, rois, SIZE, 0.25, aligned=True
    ).sum().backward()
    if has_kernel and not hasattr(
        torch.ops.torchvision, '_roi_align_backward'
    ):
        pytest.skip('this torchvision has no such kernel')
    monkeypatch.setattr(roi_align, '_has_kernel', lambda: has_kernel)
    without_kernel = Mock(wraps=torch.autograd.grad)
    monkeypatch.setattr(torch.autograd, 'grad', without_kernel)
    torch.testing.assert_close(gradient(rois), input.grad)
    assert without_kernel.called != has_kernel


@pytest.mark.gpu
@pytest.mark.parametrize(
    'dtype', [torch.float16, torch.bfloat16, torch.float32]
)
@pytest.mark.parametrize('deterministic', [True, False])
@pytest.mark.parametrize('count', [0, 8])
@pytest.mark.parametrize(
    'layout', [torch.contiguous_format, torch.channels_last]
)
def test_on_a_gpu(dtype, deterministic, count, layout):
    rois = some_rois(0.25)[:count].to(dtype)
    on_cpu = features(dtype).to(memory_format=layout).requires_grad_()
    on_gpu = on_cpu.detach().cuda().requires_grad_()
    grad = torch.randn(count, CHANNELS, *SIZE).to(dtype)
    expected = mmcv.ops.roi_align(on_cpu, rois, SIZE, 0.25)
    expected.backward(grad)
    torch.use_deterministic_algorithms(deterministic)
    try:
        output = mmcv.ops.roi_align(on_gpu, rois.cuda(), SIZE, 0.25)
        output.backward(grad.cuda())
    finally:
        torch.use_deterministic_algorithms(False)
    close = dict(rtol=2 * torch.finfo(dtype).eps, atol=1e-5)
    torch.testing.assert_close(output.cpu(), expected, **close)
    torch.testing.assert_close(on_gpu.grad.cpu(), on_cpu.grad, **close)
