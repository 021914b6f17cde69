"""Geometry of the two crops of an image: overlaps, cell masks, centres.

Pure tensor functions, batched over leading dimensions, on any device. The
loader gives crop boxes and flips only; everything else is computed from them
for the grid of the backbone's feature map. B images, V = 2 views, N = rows x
columns cells of a grid, row by row. Source: docs/method.md, section 3.1.
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

# A centre or an edge of a cell may lie exactly on the edge of a box. Both are
# ratios of small integers, so two different ones are much farther apart than
# this share of a cell, and rounding in float32 moves them by much less. Added
# on one side of a comparison, it makes exact ties independent of rounding.
TIE = 1e-5

MaskRule = Literal['center', 'floor']


class Geometry(NamedTuple):
    """Crops of a batch of view pairs.

    Attributes:
        crop_boxes (Tensor): (x1, y1, x2, y2) of each crop in pixels of the
            original image. Shape (B, V, 4).
        flips (Tensor): Whether a view is mirrored horizontally, bool. Shape
            (B, V).
    """

    crop_boxes: Tensor
    flips: Tensor

    def swapped(self) -> 'Geometry':
        """Return the same pairs with the second view first."""
        return Geometry(self.crop_boxes.flip(1), self.flips.flip(1))


def overlap_boxes(geometry: Geometry) -> Tensor:
    """Intersect the crops of an image, in each view's own frame.

    Crop boxes are in pixels of the image, the result is in shares of a view.

    Returns:
        Tensor: Intersection (x1, y1, x2, y2) as a share of each view's width
        and height, after its flip, in [0, 1]; zeros where the crops do not
        intersect. Shape (B, V, 4).

    Example:
        >>> crops = torch.tensor([[[0., 0., 8., 8.], [4., 0., 12., 8.]]])
        >>> overlap_boxes(Geometry(crops, torch.tensor([[False, True]])))
        tensor([[[0.5000, 0.0000, 1.0000, 1.0000],
                 [0.5000, 0.0000, 1.0000, 1.0000]]])
    """
    top_left, bottom_right = geometry.crop_boxes.split(2, dim=-1)
    start = top_left.amax(dim=-2, keepdim=True)
    end = bottom_right.amin(dim=-2, keepdim=True)
    size = bottom_right - top_left

    # Mirrored before the division, because 1 - 4/7 is not exactly 3/7 in
    # floating point, which can move a whole column of cells out of the box.
    flips = geometry.flips
    # Whether x and whether y is mirrored, shape (B, V, 2); y never is.
    mirrored = torch.stack([flips, torch.zeros_like(flips)], dim=-1)
    near = torch.where(mirrored, bottom_right - end, start - top_left) / size
    far = torch.where(mirrored, bottom_right - start, end - top_left) / size
    boxes = torch.cat([near, far], dim=-1)

    is_empty = (end <= start).any(dim=-1, keepdim=True)
    return boxes.clamp(0, 1).masked_fill(is_empty, 0)


def cell_mask(
    boxes: Tensor, grid: tuple[int, int], rule: MaskRule = 'center'
) -> Tensor:
    """Mark the cells of a grid that lie inside a box.

    Args:
        boxes (Tensor): (x1, y1, x2, y2) as a share of the view, in [0, 1].
            Shape (..., 4).
        grid (tuple[int, int]): Rows and columns of the grid.
        rule (str): ``'center'``: a cell is inside if its centre is; the left
            and top edges belong to the box, the right and bottom edges do
            not. ``'floor'``: all four edges are truncated to whole cells, as
            the released PixCon does, so that a partly covered cell counts at
            the left and top edge but not at the right and bottom edge.

    Returns:
        Tensor: bool, True inside. Shape (..., N), N = rows x columns.

    Example:
        >>> box = torch.tensor([0.0, 0.0, 0.7, 1.0])
        >>> cell_mask(box, (1, 4))
        tensor([ True,  True,  True, False])
        >>> cell_mask(box, (1, 4), rule='floor')
        tensor([ True,  True, False, False])
    """
    x1, y1, x2, y2 = boxes.unsqueeze(-1).unbind(dim=-2)
    inside = []
    for start, end, side in ((y1, y2, grid[0]), (x1, x2, grid[1])):
        start, end = start * side, end * side
        position = torch.arange(side, device=boxes.device, dtype=boxes.dtype)
        if rule == 'center':
            position = position + (0.5 + TIE)
        else:
            start, end = (start + TIE).floor(), (end + TIE).floor()
        inside.append((position >= start) & (position < end))
    rows, columns = inside
    return (rows.unsqueeze(-1) & columns.unsqueeze(-2)).flatten(-2)


def cell_centers(geometry: Geometry, grid: tuple[int, int]) -> Tensor:
    """Locate the cells of all views in the original image.

    Returns:
        Tensor: x and y of each cell's centre in pixels of the original
        image. Shape (B, V, N, 2).

    Example:
        >>> crop = torch.tensor([[[10., 0., 18., 4.]]])
        >>> cell_centers(Geometry(crop, torch.tensor([[True]])), (1, 2))
        tensor([[[[16.,  2.],
                  [12.,  2.]]]])
    """
    rows, columns = grid
    x1, y1, x2, y2 = geometry.crop_boxes.unsqueeze(-1).unbind(dim=-2)
    device, dtype = x1.device, x1.dtype
    across = torch.arange(columns, device=device, dtype=dtype) + 0.5
    down = torch.arange(rows, device=device, dtype=dtype) + 0.5
    across, down = across / columns, down / rows
    across = torch.where(geometry.flips.unsqueeze(-1), 1 - across, across)
    x = (x1 + across * (x2 - x1)).unsqueeze(-2)
    y = (y1 + down * (y2 - y1)).unsqueeze(-1)
    return torch.stack(torch.broadcast_tensors(x, y), dim=-1).flatten(-3, -2)


def cell_diagonals(geometry: Geometry, grid: tuple[int, int]) -> Tensor:
    """Compute the diagonal of a view's cells, in pixels. Shape (B, V).

    The pixels are those of the original image.
    """
    top_left, bottom_right = geometry.crop_boxes.split(2, dim=-1)
    width, height = (bottom_right - top_left).unbind(dim=-1)
    return torch.hypot(width / grid[1], height / grid[0])
