"""Dilation of a CNN, for denser feature maps with unchanged weights."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pixcon_mm.errors import UserError, explain

PROBE = 224  # pixels; a multiple of all usual strides and patch sizes
Read = Callable[[Tensor], Tensor]
Windows = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d)


def stride_of(
    read: Read, device: torch.device | str = 'cpu'
) -> tuple[int, int]:
    """Return the stride of a network's feature map, and its channels.

    Args:
        read (Callable): From images (B, 3, H, W) to features (B, D, h, w).
        device (torch.device | str): Device of the network.

    Raises:
        UserError: If the network does not take an image of ``PROBE`` pixels,
            or if the output is not a feature map.
    """
    image = torch.zeros(1, 3, PROBE, PROBE, device=device)
    try:
        with torch.no_grad():
            features = read(image)
    except (AssertionError, RuntimeError, TypeError) as error:
        if explain(error):
            raise  # it has a sentence of its own, for instance about memory
        reason = str(error) or type(error).__name__
        raise UserError(
            f'The backbone does not take an image of {PROBE} x {PROBE} pixels '
            f'({reason}), from which its stride is found: choose a variant '
            'that does.'
        ) from error
    side = features.shape[-1]
    if features.ndim != 4 or features.shape[2] != side or PROBE % side:
        raise UserError(
            'The backbone gives no feature map of shape (B, D, h, w) but '
            f'{tuple(features.shape)} for an image of {PROBE} x {PROBE}.'
        )
    return PROBE // side, features.shape[1]


def dilate(net: nn.Module, read: Read, stride: int) -> None:
    """Bring a CNN to a smaller stride, in place, with unchanged weights.

    Layers that would subsample beyond ``stride`` no longer subsample, and all
    layers behind them are dilated, so that each sees the same positions as
    before ("a trous"): at half the stride, every second cell of the map equals
    a cell of the original map. The sizes of the layers' inputs show which
    layers to change, for any network.

    Args:
        net (nn.Module): The network, on the CPU, in eval mode.
        read (Callable): From images (B, 3, H, W) to features (B, D, h, w).
        stride (int): Pixels per cell, a power of two.

    Raises:
        UserError: If the network cannot be dilated to that stride.
    """
    inputs: dict[nn.Module, int] = {}

    def record(module: nn.Module, args: tuple) -> None:
        inputs[module] = PROBE // args[0].shape[-1]

    layers = [m for m in net.modules() if isinstance(m, Windows)]
    hooks = [layer.register_forward_pre_hook(record) for layer in layers]
    native, _ = stride_of(read)
    for hook in hooks:
        hook.remove()
    if stride == native:
        return
    refusal = f'The backbone has stride {native} and cannot be brought to '
    if stride > native or stride & (stride - 1):
        raise UserError(
            f'{refusal}{stride}: choose a smaller power of two, or leave '
            '--stride out.'
        )
    for layer, before in inputs.items():
        # A large stride without overlap is the patch embedding of a ViT.
        step = _pair(layer.stride)[0]
        is_patches = step == _pair(layer.kernel_size)[0] and step > 4
        if before * step > stride and is_patches:
            raise UserError(
                f'{refusal}{stride}: it cuts the image into patches of '
                f'{step} pixels. Leave --stride out.'
            )
        _dilate_layer(layer, before, stride, refusal)
    try:
        reached, _ = stride_of(read)
    except UserError:  # for instance from branches of different sizes
        reached = native
    if reached != stride:
        raise UserError(
            f'{refusal}{stride} by dilation, because it does not subsample '
            'by padded convolutions or max pooling alone. Leave --stride out.'
        )


def _dilate_layer(
    layer: nn.Module, before: int, stride: int, refusal: str
) -> None:
    """Adapt a layer whose input had a stride of ``before`` originally."""
    steps = _pair(layer.stride)
    rate = max(before // stride, 1)
    # The layer subsamples only as long as the result is not beyond stride.
    kept = max(min(steps[0], stride // min(before, stride)), 1)
    is_unchanged = rate == 1 and kept == steps[0]
    if is_unchanged:
        return
    is_plain = (
        not isinstance(layer, nn.AvgPool2d)
        and steps[0] == steps[1]
        and not isinstance(layer.padding, str)
        and getattr(layer, 'padding_mode', 'zeros') == 'zeros'
        and not type(layer).__name__.endswith('Same')
    )
    if not is_plain and _pair(layer.kernel_size) != (1, 1):
        raise UserError(
            f'{refusal}{stride} by dilation: {layer} subsamples in another '
            'way. Leave --stride out.'
        )
    layer.stride = (kept, kept)
    layer.padding = tuple(p * rate for p in _pair(layer.padding))
    layer.dilation = tuple(d * rate for d in _pair(layer.dilation))


def _pair(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value, value)
