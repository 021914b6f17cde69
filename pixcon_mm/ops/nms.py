"""Non-maximum suppression by torchvision, with the signature of mmcv's."""

import torch
import torchvision
from torch import Tensor


def nms(
    boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int
) -> Tensor:
    """Pick boxes by score, and drop boxes that overlap a picked one.

    Args:
        boxes (Tensor): Corners x1, y1, x2, y2. Shape (N, 4).
        scores (Tensor): Shape (N,).
        iou_threshold (float): IoU above which a box is dropped.
        offset (int): 1 if x2 and y2 are the last pixels inside a box, whose
            width is then x2 - x1 + 1; 0 if they are its border.

    Returns:
        Tensor: Indices of the picked boxes, by descending score, int64.
        Shape (number of picked boxes,).

    Example:
        >>> boxes = torch.tensor([[0, 0, 9, 9], [0, 0, 9, 4], [9, 9, 12, 12]])
        >>> scores = torch.tensor([0.5, 0.9, 0.7])
        >>> nms(boxes, scores, iou_threshold=0.45, offset=0)
        tensor([1, 2, 0])
        >>> nms(boxes, scores, iou_threshold=0.45, offset=1)
        tensor([1, 2])
    """
    # Some of torchvision's kernels support neither half precision nor
    # integers, and all need boxes and scores of the same type.
    dtype = torch.promote_types(boxes.dtype, scores.dtype)
    dtype = torch.promote_types(dtype, torch.float32)
    boxes, scores = boxes.to(dtype), scores.to(dtype)
    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    return torchvision.ops.nms(boxes, scores, iou_threshold)
