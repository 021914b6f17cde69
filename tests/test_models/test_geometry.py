"""Boxes, masks and cell centres against pixel-by-pixel counting."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pixcon_mm.models.geometry import (
    Geometry,
    cell_centers,
    cell_mask,
    overlap_boxes,
)

FLIPS = list(itertools.product([False, True], repeat=2))


@st.composite
def box(draw, side=40):
    x1 = draw(st.integers(0, side - 1))
    y1 = draw(st.integers(0, side - 1))
    x2 = draw(st.integers(x1 + 1, side))
    y2 = draw(st.integers(y1 + 1, side))
    return x1, y1, x2, y2


PAIRS = st.tuples(box(), box())


def geometry(boxes, flips):
    crops = torch.tensor([boxes], dtype=torch.float32)
    return Geometry(crops, torch.tensor([flips]))


def overlap(boxes, flips):
    return overlap_boxes(geometry(boxes, flips))[0]


def painted(boxes, flips, side=40):
    """For each view, which of its pixels the other crop also shows."""
    shown = []
    for x1, y1, x2, y2 in boxes:
        canvas = np.zeros((side, side), dtype=bool)
        canvas[y1:y2, x1:x2] = True
        shown.append(canvas)
    both = shown[0] & shown[1]
    views = [both[y1:y2, x1:x2] for x1, y1, x2, y2 in boxes]
    return [
        view[:, ::-1] if flip else view
        for view, flip in zip(views, flips, strict=True)
    ]


@pytest.mark.parametrize('flips', FLIPS)
@settings(max_examples=60)
@given(boxes=PAIRS)
def test_overlap_equals_painted_pixels(flips, boxes):
    for found, view in zip(
        overlap(boxes, flips), painted(boxes, flips), strict=True
    ):
        if not view.any():
            assert found.tolist() == [0, 0, 0, 0]
            continue
        rows, columns = view.any(1).nonzero()[0], view.any(0).nonzero()[0]
        height, width = view.shape
        expected = (
            columns[0] / width,
            rows[0] / height,
            (columns[-1] + 1) / width,
            (rows[-1] + 1) / height,
        )
        np.testing.assert_allclose(found, expected, atol=1e-6)


def own_frame(boxes, flip):
    """Size of the first crop, and the overlap in its pixels; exact."""
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = boxes
    width, height = ax2 - ax1, ay2 - ay1
    x1, x2 = max(ax1, bx1) - ax1, min(ax2, bx2) - ax1
    y1, y2 = max(ay1, by1) - ay1, min(ay2, by2) - ay1
    if flip:
        x1, x2 = width - x2, width - x1
    return (width, height), (x1, y1, x2, y2)


@pytest.mark.parametrize('flip', [False, True])
@pytest.mark.parametrize('grid', [(7, 7), (3, 5), (14, 14)])
@settings(max_examples=40)
@given(boxes=PAIRS)
def test_center_rule_is_exact(flip, grid, boxes):
    """Compares integers: scaled by 2 * side of the grid, all are exact."""
    mask = cell_mask(overlap(boxes, (flip, False))[0], grid).view(grid)
    (width, height), (x1, y1, x2, y2) = own_frame(boxes, flip)
    rows, columns = grid
    for i, j in itertools.product(range(rows), range(columns)):
        inside_x = 2 * columns * x1 <= (2 * j + 1) * width < 2 * columns * x2
        inside_y = 2 * rows * y1 <= (2 * i + 1) * height < 2 * rows * y2
        assert mask[i, j] == (inside_x and inside_y), (i, j)


@pytest.mark.parametrize('flip', [False, True])
@settings(max_examples=100)
@given(boxes=PAIRS)
def test_floor_rule_truncates_all_edges(flip, boxes):
    """The release's mask, with exact integer division."""
    mask = cell_mask(overlap(boxes, (flip, False))[0], (7, 7), 'floor')
    (width, height), (x1, y1, x2, y2) = own_frame(boxes, flip)
    expected = np.zeros((7, 7), dtype=bool)
    if x1 < x2 and y1 < y2:
        rows = slice(7 * y1 // height, 7 * y2 // height)
        columns = slice(7 * x1 // width, 7 * x2 // width)
        expected[rows, columns] = True
    assert mask.view(7, 7).tolist() == expected.tolist()


@pytest.mark.parametrize('k', range(1, 7))
def test_floor_rule_at_exact_sevenths_after_a_flip(k):
    """1 - 4/7 is 0.42857137 in float32, whose 7-fold truncates to 2."""
    found = overlap(((0, 0, 7, 7), (0, 0, k, 7)), (True, False))[0]
    naive = torch.tensor([1 - k / 7, 0, 1, 1], dtype=torch.float32)
    for boxes in (found, naive):
        mask = cell_mask(boxes, (7, 7), 'floor').view(7, 7)
        assert mask[0].tolist() == [j >= 7 - k for j in range(7)]


@pytest.mark.parametrize('flip', [False, True])
@settings(max_examples=30)
@given(crops=PAIRS)
def test_cell_centers_equal_a_resized_coordinate_image(flip, crops):
    found = cell_centers(geometry(crops, (flip, not flip)), (3, 4))[0]
    # Each pixel cut into as many parts as the grid has cells: a cell is a
    # whole number of parts, and its centre is their mean position.
    for centers, (x1, y1, x2, y2), is_flipped in zip(
        found, crops, (flip, not flip), strict=True
    ):
        xs = x1 + (np.arange((x2 - x1) * 4) + 0.5) / 4
        ys = y1 + (np.arange((y2 - y1) * 3) + 0.5) / 3
        xs = xs[::-1] if is_flipped else xs
        x = [part.mean() for part in np.split(xs, 4)]
        y = [part.mean() for part in np.split(ys, 3)]
        expected = np.stack(np.meshgrid(x, y), axis=-1).reshape(-1, 2)
        np.testing.assert_allclose(centers, expected, rtol=1e-5)
