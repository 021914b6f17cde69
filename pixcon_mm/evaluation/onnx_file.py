"""A frozen backbone as an ONNX file, checked with onnxruntime."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pixcon_mm.cli import quiet
from pixcon_mm.errors import UserError
from pixcon_mm.evaluation.backbones import FrozenBackbone

TOLERANCE = 1e-3  # of the largest feature


def to_onnx(backbone: FrozenBackbone) -> tuple[bytes, float]:
    """Convert a backbone, with the normalisation of its images.

    Input ``images``: RGB, 0 to 255, float32, (B, 3, H, W), any B, H and W;
    output ``features``: (B, D, H / stride, W / stride).

    Args:
        backbone (FrozenBackbone): On the CPU.

    Returns:
        tuple[bytes, float]: The file, and the largest difference of its
        features to PyTorch's, as a share of the largest feature, on images
        of two other sizes.

    Raises:
        UserError: If the network cannot be converted, or computes something
            else at other sizes.
    """
    side, file = 4 * backbone.stride, io.BytesIO()
    axes = {0: 'batch', 2: 'height', 3: 'width'}
    try:
        with quiet(), _muted():  # else it prints the network if it fails
            # The other exporter needs one more package.
            torch.onnx.export(
                backbone,
                (torch.zeros(1, 3, side, side),),
                file,
                dynamo=False,
                input_names=['images'],
                output_names=['features'],
                dynamic_axes=dict(
                    images=axes, features={0: 'batch', 2: 'rows', 3: 'columns'}
                ),
            )
        error = difference(backbone, file.getvalue())
    except Exception as cause:
        raise UserError(
            'This backbone cannot be written as ONNX for images of any size: '
            f'{str(cause).splitlines()[0]}'
        ) from cause
    if not error <= TOLERANCE:
        raise UserError(
            'The ONNX file computes other features than PyTorch at other '
            f'sizes of images, by {error:.1%} of the largest: the network '
            'does not take images of any size.'
        )
    return file.getvalue(), error


def difference(backbone: FrozenBackbone, content: bytes) -> float:
    """Compare onnxruntime's features with PyTorch's, on two sizes.

    Both have three cells or more a side, as padding that mirrors the border
    needs in dilated stages.

    Returns:
        float: Largest difference as a share of the largest feature; infinity
        if the shapes differ.
    """
    import onnxruntime

    session = onnxruntime.InferenceSession(
        content, providers=['CPUExecutionProvider']
    )
    generator, worst = torch.Generator().manual_seed(0), 0.0
    for batch, rows, columns in ((2, 3, 5), (1, 6, 3)):
        shape = (batch, 3, rows * backbone.stride, columns * backbone.stride)
        images = 255 * torch.rand(shape, generator=generator)
        (found,) = session.run(None, dict(images=images.numpy()))
        expected = backbone(images)
        if found.shape != expected.shape:
            return float('inf')
        error = (torch.from_numpy(found) - expected).abs().max()
        worst = max(worst, float(error / expected.abs().max()))
    return worst


@contextmanager
def _muted() -> Iterator[None]:
    """Discard what C++ prints to standard output in here."""
    stdout = os.dup(1)
    with open(os.devnull, 'wb') as nowhere:
        os.dup2(nowhere.fileno(), 1)
    try:
        yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)
