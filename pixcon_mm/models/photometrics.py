"""Photometric augmentation of whole batches, each image by its own numbers.

Pure tensor functions on any device. Images are RGB floats in [0, 1], of shape
(B, 3, H, W). The numbers of each image (:class:`SamplePhotometrics`) stay on
the host, so that it selects the images of each operation without a host sync.
Each operation equals torchvision's of the same name, which takes one number
for all images. Source: docs/method.md, section 3.2.
"""

import logging
import math
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor
from torchvision.transforms.v2.functional import rgb_to_grayscale, solarize

SOLARIZE_FROM = 128 / 255


def blend(base: Tensor, images: Tensor, factor: Tensor) -> Tensor:
    """Move images towards a base (factor < 1) or away from it (above 1).

    Args:
        base (Tensor): Shape (B, 1, 1, 1) or (B, 1, H, W).
        images (Tensor): Shape (B, 3, H, W).
        factor (Tensor): Shape (B,).

    Returns:
        Tensor: In [0, 1]. Shape (B, 3, H, W).
    """
    return torch.lerp(base, images, factor.view(-1, 1, 1, 1)).clamp_(0, 1)


def adjust_brightness(images: Tensor, factor: Tensor) -> Tensor:
    """Scale intensities by one factor per image, shape (B,)."""
    return (images * factor.view(-1, 1, 1, 1)).clamp_(0, 1)


def adjust_contrast(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the mean luminance of each image, by factors (B,)."""
    mean = rgb_to_grayscale(images).mean(dim=(1, 2, 3), keepdim=True)
    return blend(mean, images, factor)


def adjust_saturation(images: Tensor, factor: Tensor) -> Tensor:
    """Blend with the luminance of each pixel, by factors (B,)."""
    return blend(rgb_to_grayscale(images), images, factor)


def adjust_hue(images: Tensor, shift: Tensor) -> Tensor:
    """Rotate the hue of each image by a part of a turn, in [-0.5, 0.5].

    ``shift`` has shape (B,).

    Example:
        >>> red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
        >>> adjust_hue(red, torch.tensor([1 / 3])).flatten()
        tensor([0., 1., 0.])
    """
    red, green, blue = images.split(1, dim=1)
    value = images.amax(dim=1, keepdim=True)
    chroma = value - images.amin(dim=1, keepdim=True)
    # The clamp avoids 0/0 at grey pixels, whose hue does not matter.
    inverse = chroma.clamp(min=1e-12).reciprocal_()
    sextant = torch.where(
        value == red,
        (green - blue) * inverse,
        torch.where(
            value == green,
            (blue - red) * inverse + 2,
            (red - green) * inverse + 4,
        ),
    )
    # Back to RGB: a channel is value - chroma * clamp(min(p, 4 - p), 0, 1),
    # where p = (sextant + offset) mod 6.
    sextant = sextant + 6 * shift.view(-1, 1, 1, 1)
    offset = torch.arange(5, 0, -2, device=images.device).view(3, 1, 1)
    position = (sextant + offset).remainder_(6)
    share = torch.minimum(position, 4 - position).clamp_(0, 1)
    return torch.addcmul(value, share, chroma, value=-1)


def gaussian_blur(images: Tensor, sigma: Tensor, largest: float) -> Tensor:
    """Blur with reflected borders.

    Args:
        images (Tensor): Shape (B, 3, H, W).
        sigma (Tensor): Standard deviations in pixels, above 0. Shape (B,).
        largest (float): Their upper bound, which sets the width of the
            convolution. The kernel of each image is zero beyond three of its
            own standard deviations, so the result does not depend on the
            other images of the batch.
    """
    batch, channels, height, width = images.shape
    radius = min(math.ceil(3 * largest), height - 1, width - 1)
    distance = torch.arange(-radius, radius + 1, device=images.device)
    kernel = torch.exp(-0.5 * (distance / sigma[:, None]) ** 2)
    kernel *= distance.abs() <= torch.ceil(3 * sigma[:, None])
    kernel = (kernel / kernel.sum(1, keepdim=True)).to(images.dtype)
    kernel = kernel.repeat_interleave(channels, dim=0)
    rows = images.reshape(1, batch * channels, height, width)
    rows = F.pad(rows, (radius,) * 4, mode='reflect')
    for shape in ((-1, 1, 1, 2 * radius + 1), (-1, 1, 2 * radius + 1, 1)):
        rows = F.conv2d(rows, kernel.view(shape), groups=batch * channels)
    return rows.view(batch, channels, height, width)


JITTER: tuple[Callable[[Tensor, Tensor], Tensor], ...] = (
    adjust_brightness,
    adjust_contrast,
    adjust_saturation,
    adjust_hue,
)
NO_OPERATION = len(JITTER)


def color_jitter(images: Tensor, factors: Tensor, order: Tensor) -> Tensor:
    """Apply the operations of ``JITTER`` in each image's own order.

    Args:
        images (Tensor): Shape (B, 3, H, W), overwritten and returned.
        factors (Tensor): A column for each operation. Shape (B, 4).
        order (Tensor): Numbers of the operations, first to last, or
            ``NO_OPERATION``; int64, on the CPU. Shape (B, 4).
    """
    factors = factors.to(images.device, non_blocking=True)
    # Every image gets one operation per turn, four turns in all. Row t has
    # the images sorted by their operation in turn t. Shape (4, B).
    turns = order.T.argsort(dim=1).to(images.device, non_blocking=True)
    for turn, numbers in zip(turns, order.T, strict=True):
        counts = numbers.bincount(minlength=NO_OPERATION + 1).tolist()
        groups = turn.split(counts)[:NO_OPERATION]
        for number, (operation, rows) in enumerate(
            zip(JITTER, groups, strict=True)
        ):
            if len(rows):
                images[rows] = operation(images[rows], factors[rows, number])
    return images


def jitter_all(
    images: Tensor, factors: Tensor, order: Tensor, grayscale: Tensor
) -> Tensor:
    """Jitter and turn grey, by computing every operation for every image.

    This is several times the work of :func:`color_jitter`, but the same
    operations for any batch, of which torch.compile makes a few kernels. The
    arguments are those of :func:`augment`, all on one device.
    """
    for turn in order.T[..., None, None, None]:
        before = images
        for number, operation in enumerate(JITTER):
            changed = operation(before, factors[:, number])
            images = torch.where(turn == number, changed, images)
    grey = rgb_to_grayscale(images, 3)
    return torch.where(grayscale[:, None, None, None], grey, images)


@cache
def compiled_jitter(
    device: torch.device, shape: torch.Size
) -> Callable[..., Tensor] | None:
    """Compile :func:`jitter_all` for images of a shape (B, 3, H, W).

    Takes about ten seconds. Where it fails, such as without a C compiler,
    warns and returns None. The code is for the autocast and gradient mode of
    this call.
    """
    if torch._dynamo.config.disable:  # by an environment variable
        return None
    # In this process alone: each of many ranks would start as many others as
    # there are processors.
    jitter = torch.compile(
        jitter_all,
        fullgraph=True,
        dynamic=False,
        options=dict(compile_threads=1),
    )
    try:
        jitter(
            torch.zeros(shape, device=device),
            torch.zeros(shape[0], 4, device=device),
            torch.zeros(shape[0], 4, dtype=torch.int64, device=device),
            torch.zeros(shape[0], dtype=torch.bool, device=device),
        )
    except Exception as error:  # of torch.compile, Triton or a C compiler
        reason = f'{type(error).__name__}: {error}'.splitlines()[0]
        print_log(
            'The colour augmentation is slower: torch.compile, which needs a '
            'C compiler and the headers of Python, fails here. To avoid this '
            'warning, set model.data_preprocessor.compile_colors=False. '
            f'{reason}',
            logger='current',
            level=logging.WARNING,
        )
        return None
    return jitter


def augment(
    images: Tensor, numbers: dict[str, Tensor], compiled: bool = False
) -> Tensor:
    """Augment each image by its own numbers.

    Args:
        images (Tensor): RGB in [0, 1], shape (B, 3, H, W); may be
            overwritten.
        numbers (dict[str, Tensor]): On the CPU. ``factors`` and ``order``
            (B, 4) as in :func:`color_jitter`; ``grayscale`` and
            ``solarize`` (B,), bool; ``sigma`` (B,) of the blur in pixels,
            0 for none.
        compiled (bool): Jitter with :func:`compiled_jitter`.

    Returns:
        Tensor: Shape (B, 3, H, W).
    """

    def to_device(tensor: Tensor) -> Tensor:
        return tensor.to(images.device, non_blocking=True)

    def chosen(mask: Tensor) -> Tensor:
        return to_device(mask.nonzero().flatten())

    factors, order = numbers['factors'], numbers['order']
    grayscale = numbers['grayscale']
    # Autocast would run the blur, a convolution, in half precision.
    with torch.no_grad(), torch.autocast(images.device.type, enabled=False):
        jitter = compiled and compiled_jitter(images.device, images.shape)
        if jitter:
            images = jitter(
                images, *map(to_device, (factors, order, grayscale))
            )
        else:
            images = color_jitter(images, factors, order)
            rows = chosen(grayscale)
            images[rows] = rgb_to_grayscale(images[rows], 3)
        sigma = numbers['sigma']
        if (sigma > 0).any():
            rows, largest = chosen(sigma > 0), sigma.max().item()
            sigma = to_device(sigma)[rows]
            images[rows] = gaussian_blur(images[rows], sigma, largest)
        rows = chosen(numbers['solarize'])
        images[rows] = solarize(images[rows], SOLARIZE_FROM)
        return images
