"""Boxes, masks and cell centres against pixel-by-pixel counting."""

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pixcon_mm.models.geometry import cell_centers, cell_mask, overlap_boxes

FLIPS = list(itertools.product([False, True], repeat=2))


@st.composite
def box(draw, side=40):
    x1 = draw(st.integers(0, side - 1))
    y1 = draw(st.integers(0, side - 1))
    x2 = draw(st.integers(x1 + 1, side))
    y2 = draw(st.integers(y1 + 1, side))
    return x1, y1, x2, y2


def analytic(boxes, flips):
    crops = torch.tensor([boxes], dtype=torch.float32)
    return overlap_boxes(crops, torch.tensor([flips]))[0]


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
@settings(max_examples=60, deadline=None)
@given(boxes=st.tuples(box(), box()))
def test_overlap_equals_painted_pixels(flips, boxes):
    result = analytic(boxes, flips)
    assert ((result >= 0) & (result <= 1)).all()
    for found, view in zip(result, painted(boxes, flips), strict=True):
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


@pytest.mark.parametrize('flips', FLIPS)
def test_equal_crops_overlap_wholly(flips):
    crop = (13, 5, 33, 22)
    assert analytic((crop, crop), flips).tolist() == [[0, 0, 1, 1]] * 2


@pytest.mark.parametrize('flips', FLIPS)
def test_touching_crops_do_not_overlap(flips):
    found = analytic(((0, 0, 10, 10), (10, 0, 20, 10)), flips)
    assert not found.any()
    for rule in ('center', 'floor'):
        assert not cell_mask(found, (7, 7), rule).any()


def test_overlap_is_batched():
    crops = torch.randint(0, 30, (3, 5, 2, 2)).float()
    crops = torch.cat([crops, crops + torch.randint(1, 20, crops.shape)], -1)
    flips = torch.rand(3, 5, 2) < 0.5
    together = overlap_boxes(crops, flips)
    for i, j in itertools.product(range(3), range(5)):
        alone = overlap_boxes(crops[i, j], flips[i, j])
        assert torch.equal(together[i, j], alone)


@pytest.mark.parametrize('flip', [False, True])
@pytest.mark.parametrize('grid', [(7, 7), (3, 5), (14, 14)])
@settings(max_examples=40, deadline=None)
@given(boxes=st.tuples(box(), box()))
def test_center_rule_asks_where_the_centre_is(flip, grid, boxes):
    """In integers: scaled by 2 * side of the grid, nothing is rounded."""
    mask = cell_mask(analytic(boxes, (flip, False))[0], grid).view(grid)
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = boxes
    width, height = ax2 - ax1, ay2 - ay1
    x1, x2 = max(ax1, bx1) - ax1, min(ax2, bx2) - ax1
    y1, y2 = max(ay1, by1) - ay1, min(ay2, by2) - ay1
    if flip:
        x1, x2 = width - x2, width - x1
    rows, columns = grid
    for i, j in itertools.product(range(rows), range(columns)):
        inside_x = 2 * columns * x1 <= (2 * j + 1) * width < 2 * columns * x2
        inside_y = 2 * rows * y1 <= (2 * i + 1) * height < 2 * rows * y2
        assert mask[i, j] == (inside_x and inside_y), (i, j)


@pytest.mark.parametrize('flip', [False, True])
@settings(max_examples=100, deadline=None)
@given(boxes=st.tuples(box(), box()))
def test_floor_rule_truncates_all_edges(flip, boxes):
    """The release's mask, with exact integer division."""
    mask = cell_mask(analytic(boxes, (flip, False))[0], (7, 7), 'floor')
    (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = boxes
    width, height = ax2 - ax1, ay2 - ay1
    x1, x2 = max(ax1, bx1) - ax1, min(ax2, bx2) - ax1
    y1, y2 = max(ay1, by1) - ay1, min(ay2, by2) - ay1
    expected = np.zeros((7, 7), dtype=bool)
    if x1 < x2 and y1 < y2:
        if flip:
            x1, x2 = width - x2, width - x1
        rows = slice(7 * y1 // height, 7 * y2 // height)
        columns = slice(7 * x1 // width, 7 * x2 // width)
        expected[rows, columns] = True
    assert mask.view(7, 7).numpy().tolist() == expected.tolist()


@pytest.mark.parametrize('k', range(1, 7))
def test_floor_rule_at_exact_sevenths_after_a_flip(k):
    """1 - 4/7 is 0.42857137 in float32, whose 7-fold truncates to 2."""
    found = analytic(((0, 0, 7, 7), (0, 0, k, 7)), (True, False))[0]
    mask = cell_mask(found, (7, 7), 'floor').view(7, 7)
    assert mask[0].tolist() == [j >= 7 - k for j in range(7)]
    naive = torch.tensor([1 - k / 7, 0, 1, 1], dtype=torch.float32)
    mask = cell_mask(naive, (7, 7), 'floor').view(7, 7)
    assert mask[0].tolist() == [j >= 7 - k for j in range(7)]


def test_floor_rule_may_be_empty_where_the_center_rule_is_not():
    found = torch.tensor([0.3, 0.0, 0.55, 1.0])
    assert cell_mask(found, (2, 2)).sum() == 0
    found = torch.tensor([0.2, 0.0, 0.45, 1.0])
    assert cell_mask(found, (2, 2)).sum() == 2
    assert cell_mask(found, (2, 2), 'floor').sum() == 0


def test_unknown_mask_rule():
    with pytest.raises(ValueError, match='centre'):
        cell_mask(torch.zeros(4), (2, 2), rule='centre')


@pytest.mark.parametrize('flip', [False, True])
@settings(max_examples=30, deadline=None)
@given(crop=box())
def test_cell_centers_equal_a_resized_coordinate_image(flip, crop):
    x1, y1, x2, y2 = crop
    grid = (3, 4)
    found = cell_centers(
        torch.tensor(crop, dtype=torch.float32), torch.tensor(flip), grid
    ).view(*grid, 2)
    # Each pixel cut into as many parts as the grid has cells: a cell is a
    # whole number of parts, and its centre is their mean position.
    xs = x1 + (np.arange((x2 - x1) * 4) + 0.5) / 4
    ys = y1 + (np.arange((y2 - y1) * 3) + 0.5) / 3
    xs = xs[::-1] if flip else xs
    x = [part.mean() for part in np.split(xs, 4)]
    y = [part.mean() for part in np.split(ys, 3)]
    expected = np.stack(np.meshgrid(x, y), axis=-1)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


@settings(max_examples=60, deadline=None)
@given(boxes=st.tuples(box(), box()), flip=st.booleans())
def test_cells_in_the_mask_have_their_centre_in_the_other_crop(boxes, flip):
    """The mask and the centres tell the same story."""
    crops = torch.tensor(boxes, dtype=torch.float32)
    mask = cell_mask(analytic(boxes, (flip, True))[0], (5, 5))
    centres = cell_centers(crops[0], torch.tensor(flip), (5, 5))
    low, high = crops[1, :2], crops[1, 2:]
    # Centres that sit on the border may fall on either side of it.
    off = (centres - low).abs().minimum((centres - high).abs()).amin(-1) > 1e-3
    inside = ((centres > low) & (centres < high)).all(-1)
    assert torch.equal(mask[off], inside[off])


def test_cell_centers_are_batched():
    crops = torch.rand(3, 2, 4) * 10
    flips = torch.tensor([[True, False]] * 3)
    together = cell_centers(crops, flips, (2, 3))
    assert together.shape == (3, 2, 6, 2)
    assert torch.equal(
        together[1, 0], cell_centers(crops[1, 0], flips[1, 0], (2, 3))
    )
