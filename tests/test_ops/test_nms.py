"""NMS, called through mmcv, against a loop over boxes."""

import mmcv.ops
import pytest
import torch

from pixcon_mm.ops.nms import nms
from tests import DEVICES


def iou(a, b, offset):
    def area(x1, y1, x2, y2):
        return max(0, x2 - x1 + offset) * max(0, y2 - y1 + offset)

    left_top = [max(a[0], b[0]), max(a[1], b[1])]
    right_bottom = [min(a[2], b[2]), min(a[3], b[3])]
    common = area(*left_top, *right_bottom)
    return common / (area(*a) + area(*b) - common)


def slow_nms(boxes, scores, threshold, offset=0):
    boxes, scores = boxes.tolist(), scores.tolist()
    left = sorted(range(len(scores)), key=lambda i: -scores[i])
    picked = []
    while left:
        best, *rest = left
        picked.append(best)
        left = [
            i for i in rest if iou(boxes[i], boxes[best], offset) <= threshold
        ]
    return picked


def some_boxes(count):
    """Crowded, and on a raster where sums and an IoU of 1/2 are exact."""
    corner = torch.randint(0, 80, (count, 2))
    size = torch.randint(24, 56, (count, 2))
    return torch.cat([corner, corner + size], dim=1) / 8


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('threshold', [0.2, 0.5, 0.7])
@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_nms(threshold, offset, dtype, device):
    boxes = some_boxes(80).to(device, dtype)
    scores = torch.rand(80, dtype=dtype).to(device)
    expected = slow_nms(boxes, scores, threshold, offset)
    assert 5 < len(expected) < 75
    dets, keep = mmcv.ops.nms(boxes, scores, threshold, offset)
    assert keep.tolist() == expected
    assert keep.dtype == torch.int64
    picked = torch.cat([boxes[expected], scores[expected, None]], dim=1)
    assert torch.equal(dets, picked)


def test_of_equal_scores_the_first_goes_first():
    boxes, scores = some_boxes(80), torch.randint(0, 3, (80,)) / 4
    _, keep = mmcv.ops.nms(boxes, scores, 0.5)
    assert keep.tolist() == slow_nms(boxes, scores, 0.5)


@pytest.mark.parametrize('offset', [0, 1])
def test_an_iou_at_the_threshold_is_not_above_it(offset):
    boxes = torch.tensor([[0.0, 0, 8, 8], [0, 0, 4, 8], [0, 0, 5, 8]])
    boxes[:, 2:] -= offset
    _, keep = mmcv.ops.nms(boxes, torch.tensor([0.9, 0.8, 0.7]), 0.5, offset)
    assert keep.tolist() == [0, 1]


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('offset', [0, 1])
def test_no_boxes(offset, device):
    boxes = torch.zeros(0, 4, device=device)
    dets, keep = mmcv.ops.nms(boxes, boxes[:, 0], 0.5, offset)
    assert dets.shape == (0, 5)
    assert (keep.shape, keep.dtype) == ((0,), torch.int64)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
@pytest.mark.parametrize('offset', [0, 1])
def test_half_precision_boxes_are_compared_in_single(dtype, offset, device):
    boxes, rand = some_boxes(80).to(device, dtype), torch.rand(80).to(device)
    for scores in (rand, rand.to(dtype)):
        expected = slow_nms(boxes, scores, 0.5, offset)
        assert nms(boxes, scores, 0.5, offset).tolist() == expected


def test_offset_is_added_in_single_precision():
    # 512 + 1 does not exist in bfloat16.
    boxes = torch.tensor([[508.0, 0, 512, 0], [508, 0, 510, 0]])
    for dtype in (torch.float32, torch.bfloat16):
        kept = nms(boxes.to(dtype), torch.tensor([0.9, 0.8]), 0.62, 1)
        # 3 pixels of 5.
        assert kept.tolist() == [0, 1]


def test_scores_keep_their_own_precision():
    boxes = torch.tensor([[0.0, 0, 1, 1], [2, 2, 3, 3]])
    scores = torch.tensor([0.5, 0.5 + 1e-12], dtype=torch.float64)
    assert nms(boxes, scores, 0.5, 0).tolist() == [1, 0]


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('split_thr', [10, 10000])
@pytest.mark.parametrize('offset', [0, 1])
def test_classes_do_not_suppress_each_other(split_thr, offset, device):
    boxes, scores = some_boxes(90).to(device), torch.rand(90).to(device)
    labels = torch.randint(0, 3, (90,)).to(device)
    expected = []
    for label in labels.unique():
        own = (labels == label).nonzero()[:, 0]
        keep = slow_nms(boxes[own], scores[own], 0.5, offset)
        expected += own[keep].tolist()
    expected.sort(key=lambda i: -scores[i])
    options = dict(type='nms', iou_threshold=0.5, split_thr=split_thr)
    dets, keep = mmcv.ops.batched_nms(
        boxes, scores, labels, dict(options, offset=offset)
    )
    assert keep.tolist() == expected
    assert torch.equal(dets[:, :4], boxes[expected])
