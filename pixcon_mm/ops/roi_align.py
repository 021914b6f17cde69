"""RoIAlign by torchvision, with the signatures of mmcv's operators.

Shapes: B images, C channels, H x W cells, R regions, h x w bins.
"""

import torch
import torchvision  # noqa: F401, registers the kernels
from torch import Tensor

from pixcon_mm.ops.stand_in import compiled_only

AVERAGE = 1
# The kernel itself: if deterministic algorithms are required on a GPU,
# torchvision's function compiles code of its own, which differs for regions
# that reach out of the image and gives a gradient of NaN for empty ones.
roi_align = torch.ops.torchvision.roi_align


def roi_align_forward(
    input: Tensor,
    rois: Tensor,
    output: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write the average of each bin of each region into ``output``.

    Args:
        input (Tensor): Feature maps. Shape (B, C, H, W).
        rois (Tensor): Image index and corners x1, y1, x2, y2 in the image.
            Shape (R, 5).
        output (Tensor): Filled in place. Shape (R, C, h, w).
        argmax_y (Tensor): Not used; only maximum pooling needs it.
        argmax_x (Tensor): Not used; only maximum pooling needs it.
        aligned_height (int): Number of bins h.
        aligned_width (int): Number of bins w.
        spatial_scale (float): Cells of the feature map per image pixel.
        sampling_ratio (int): Samples along each side of a bin; 0 for about
            one per cell.
        pool_mode (int): 1 for the average; 0, the maximum, is an error.
        aligned (bool): Shift the regions by half a cell, so that positions
            are those of cell centres.

    Raises:
        UserError: If ``pool_mode`` is the maximum.

    Example:
        >>> input = torch.arange(16.0).reshape(1, 1, 4, 4)
        >>> rois = torch.tensor([[0.0, 0, 0, 4, 4]])
        >>> output, unused = torch.zeros(1, 1, 2, 2), torch.zeros(0)
        >>> roi_align_forward(
        ...     input, rois, output, unused, unused, 2, 2, 1.0, 0, 1, True
        ... )
        >>> output
        tensor([[[[ 2.5000,  4.5000],
                  [10.5000, 12.5000]]]])
    """
    _check(pool_mode)
    dtype = _precision(input)
    output.copy_(
        roi_align(
            input.to(dtype),
            rois.to(dtype),
            spatial_scale,
            aligned_height,
            aligned_width,
            sampling_ratio,
            aligned,
        )
    )


def roi_align_backward(
    grad_output: Tensor,
    rois: Tensor,
    argmax_y: Tensor,
    argmax_x: Tensor,
    grad_input: Tensor,
    aligned_height: int,
    aligned_width: int,
    spatial_scale: float,
    sampling_ratio: int,
    pool_mode: int,
    aligned: bool,
) -> None:
    """Write the gradient of the feature maps into ``grad_input``.

    Arguments that are not listed here are those of :func:`roi_align_forward`.

    Args:
        grad_output (Tensor): Gradient of the bins. Shape (R, C, h, w).
        grad_input (Tensor): Filled in place. Shape (B, C, H, W).

    Example:
        >>> grad_output, unused = torch.ones(1, 1, 1, 1), torch.zeros(0)
        >>> rois = torch.tensor([[0.0, 0, 0, 2, 2]])
        >>> grad_input = torch.zeros(1, 1, 2, 3)
        >>> roi_align_backward(
        ...     grad_output, rois, unused, unused, grad_input,
        ...     1, 1, 1.0, 0, 1, True
        ... )
        >>> grad_input
        tensor([[[[0.2500, 0.2500, 0.0000],
                  [0.2500, 0.2500, 0.0000]]]])
    """
    _check(pool_mode)
    # In half precision, sums over many regions would lose small terms.
    dtype = _precision(grad_output)
    if grad_output.is_cuda and torch.are_deterministic_algorithms_enabled():
        # CUDA's kernel sums in no fixed order, and would raise an error.
        grad_output, rois = grad_output.cpu(), rois.cpu()
    grad_output, rois = grad_output.to(dtype), rois.to(dtype)
    size, shape = (aligned_height, aligned_width), grad_input.shape
    if _has_kernel():
        gradient = torch.ops.torchvision._roi_align_backward(
            grad_output,
            rois,
            spatial_scale,
            *size,
            *shape,
            sampling_ratio,
            aligned,
        )
    else:
        # RoIAlign is linear, so its gradient does not depend on the feature
        # maps: zeros are as good as any.
        zeros = grad_output.new_zeros(shape, requires_grad=True)
        with torch.enable_grad():
            output = roi_align(
                zeros, rois, spatial_scale, *size, sampling_ratio, aligned
            )
        (gradient,) = torch.autograd.grad(output, zeros, grad_output)
    grad_input.copy_(gradient)


def _check(pool_mode: int) -> None:
    if pool_mode != AVERAGE:
        raise compiled_only("RoIAlign with pool_mode='max'")


def _precision(tensor: Tensor) -> torch.dtype:
    """Return at least single precision, as some kernels support no lower."""
    return torch.promote_types(tensor.dtype, torch.float32)


def _has_kernel() -> bool:
    return hasattr(torch.ops.torchvision, '_roi_align_backward')
