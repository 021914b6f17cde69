"""The memory format of a model, channels-last only where that is safe."""

import logging

import torch
from mmengine.logging import print_log
from torch import nn

# Channels of one AVX-512 vector of float32, the widest that oneDNN writes.
VECTOR = 16


def is_corrupted_by_channels_last(layer: nn.Module) -> bool:
    """Check if the weight gradient of a layer overruns memory on the CPU.

    oneDNN writes past the workspace of a strided 1x1 convolution whose input
    has fewer channels than a vector: the process dies or hangs, or the
    gradient is wrong. See docs/channels_last_on_cpu.md.
    """
    return (
        isinstance(layer, nn.Conv2d)
        and layer.weight.device.type == 'cpu'
        and layer.weight.requires_grad
        and layer.kernel_size == (1, 1)
        and max(layer.stride) > 1
        and layer.weight.shape[1] < VECTOR
    )


def safe_memory_format(
    model: nn.Module, wanted: torch.memory_format
) -> torch.memory_format:
    """Choose the wanted memory format, or the plain one with a warning.

    The result is for weights and inputs: a channels-last input is enough to
    make a convolution with contiguous weights use the faulty kernel. A model
    that is built on the CPU is judged as if it were trained there.
    """
    if wanted != torch.channels_last:
        return wanted
    for name, layer in model.named_modules():
        if is_corrupted_by_channels_last(layer):
            print_log(
                f'channels_last=True is left out: {name}, a strided 1x1 '
                f'convolution of {layer.weight.shape[1]} channels, would '
                f'corrupt memory on the CPU; with {VECTOR} or more, it '
                'is safe.',
                logger='current',
                level=logging.WARNING,
            )
            return torch.contiguous_format
    return wanted
