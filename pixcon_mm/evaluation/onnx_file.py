"""Conversion of a frozen backbone to ONNX, checked with onnxruntime."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from pixcon_mm.cli import quiet
from pixcon_mm.errors import UserError
from pixcon_mm.evaluation.backbones import FrozenBackbone

TOLERANCE = 1e-3  # largest error, as a share of the largest feature


def to_onnx(backbone: FrozenBackbone) -> tuple[bytes, float]:
    """Convert a backbone, including the normalisation of its images.

    Input ``images``: RGB, 0 to 255, float32, (B, 3, H, W), any B, H and W;
    output ``features``: (B, D, H / stride, W / stride).

    Args:
        backbone (FrozenBackbone): On the CPU.

    Returns:
        tuple[bytes, float]: Content of the file, and the largest difference
        of its features from PyTorch's, as a share of the largest feature, on
        images of two sizes that the conversion did not use.

    Raises:
        UserError: If the network cannot be converted, or if the file computes
            different features at these sizes.
    """
    side, file = 4 * backbone.stride, io.BytesIO()
    axes = {0: 'batch', 2: 'height', 3: 'width'}
    try:
        with quiet(), _muted():  # A failing export prints the whole network.
            # PyTorch's newer exporter (dynamo) needs another package.
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
            'For images of another size, the features of the ONNX file differ '
            f"from PyTorch's by {error:.1%} of the largest feature: the "
            'exported network works for one size only.'
        )
    return file.getvalue(), error


def difference(backbone: FrozenBackbone, content: bytes) -> float:
    """Compare onnxruntime's features with PyTorch's, on images of two sizes.

    Both sizes have at least three cells per side, because dilated stages with
    reflection padding need them.

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
    """Discard standard output, including that of C++ code."""
    stdout = os.dup(1)
    with open(os.devnull, 'wb') as nowhere:
        os.dup2(nowhere.fileno(), 1)
    try:
        yield
    finally:
        os.dup2(stdout, 1)
        os.close(stdout)
