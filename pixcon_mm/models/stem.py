"""ResNet's stem with less memory: max pooling first, then ReLU."""

import torch
import torch.nn.functional as F
from mmpretrain.models import ResNet
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

aten = torch.ops.aten


def window_starts(
    grid: torch.Size,
    width: int,
    stride: int,
    padding: int,
    device: torch.device,
) -> Tensor:
    """Return the index of the pixel at which each window starts.

    Returns:
        Tensor: y * width + x, negative in the padding. Shape ``grid``, the
        rows and columns of windows.
    """
    down, across = (
        torch.arange(-padding, side * stride - padding, stride, device=device)
        for side in grid
    )
    return down[:, None] * width + across


class _MaxPool(torch.autograd.Function):
    """Max pooling that keeps only the place of each window's maximum.

    A place is stored as its offset from the start of its window, which fits
    into int16. PyTorch's max pooling keeps its input, and places as int64:
    together eight times as many bytes, if the input is of half precision.
    """

    @staticmethod
    def forward(ctx, maps, kernel_size, stride, padding):
        ctx.window = [kernel_size] * 2, [stride] * 2, [padding] * 2
        ctx.like = dict(
            size=maps.shape,
            dtype=maps.dtype,
            device=maps.device,
            memory_format=torch.channels_last
            if maps.is_contiguous(memory_format=torch.channels_last)
            else torch.contiguous_format,
        )
        pooled, places = aten.max_pool2d_with_indices(maps, *ctx.window)
        width = maps.shape[3]
        starts = window_starts(
            pooled.shape[2:], width, stride, padding, maps.device
        )
        fits = kernel_size * width <= torch.iinfo(torch.int16).max
        dtype = torch.int16 if fits else torch.int32
        offsets = places.sub_(starts).to(dtype)
        ctx.save_for_backward(offsets, starts)
        return pooled

    @staticmethod
    @once_differentiable
    def backward(ctx, grad):
        offsets, starts = ctx.saved_tensors
        # The kernel reads no value of its input, only shape and strides.
        maps = torch.empty(**ctx.like)
        grad = aten.max_pool2d_with_indices_backward(
            grad, maps, *ctx.window, [1, 1], False, offsets + starts
        )
        return grad, None, None, None


class MaxPoolReLU(nn.MaxPool2d):
    """Max pooling, then ReLU: the same as ReLU, then max pooling.

    Results and gradients are equal, bit for bit. ReLU works in place on a
    quarter of the numbers, and autograd keeps its small result instead of a
    map of full size.
    """

    def forward(self, maps: Tensor) -> Tensor:
        """Pool maps (B, C, H, W)."""
        window = self.kernel_size, self.stride, self.padding
        if torch.is_grad_enabled() and maps.requires_grad:
            return _MaxPool.apply(maps, *window).relu_()
        return F.max_pool2d(maps, *window).relu_()


def pool_before_relu(backbone: nn.Module) -> None:
    """Exchange ReLU and max pooling in the stem of MMPretrain's ResNet.

    Other backbones stay as they are. Neither layer has weights, so that
    checkpoints stay the same.
    """
    is_resnet = getattr(type(backbone), 'forward', None) is ResNet.forward
    if is_resnet and not backbone.deep_stem:
        backbone.relu = nn.Identity()
        # All ResNets of MMPretrain have this window.
        backbone.maxpool = MaxPoolReLU(kernel_size=3, stride=2, padding=1)
