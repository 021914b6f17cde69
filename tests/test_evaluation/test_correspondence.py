"""Tests of correspondence by known geometry."""

from itertools import product

import numpy as np
import pytest
import torch
from torch.utils.data import TensorDataset

from pixcon_mm.evaluation.correspondence import (
    CropPairs,
    count_matches,
    match,
    summarize,
    target_cells,
)
from pixcon_mm.models.geometry import Geometry
from tests.test_evaluation.test_nearest_neighbors import Colours
from tests.test_evaluation.trees import make_voc


def random_geometry(count):
    start = torch.randint(0, 50, (count, 2, 2)).float()
    size = torch.randint(20, 80, (count, 2, 2)).float()
    boxes = torch.cat([start, start + size], dim=-1)
    return Geometry(boxes, torch.rand(count, 2) < 0.5)


def slow_targets(geometry, grid):
    """Follow each cell's centre through the image, one at a time."""
    rows, columns = grid
    found = {}
    for b, (boxes, flips) in enumerate(zip(*geometry, strict=True)):
        (ax1, ay1, ax2, ay2), (bx1, by1, bx2, by2) = boxes.tolist()
        for y, x in product(range(rows), range(columns)):
            across = (x + 0.5) / columns
            across = 1 - across if flips[0] else across
            px = ax1 + across * (ax2 - ax1)
            py = ay1 + (y + 0.5) / rows * (ay2 - ay1)
            u, v = (px - bx1) / (bx2 - bx1), (py - by1) / (by2 - by1)
            if 0 < u < 1 and 0 < v < 1:
                u = 1 - u if flips[1] else u
                target = int(v * rows), int(u * columns)
                found[b, y * columns + x] = target
    return found


def test_targets_equal_a_slow_version():
    geometry, grid = random_geometry(40), (5, 7)
    target, inside = target_cells(geometry, grid)
    expected = slow_targets(geometry, grid)
    assert len(expected) > 200
    found = {
        (b, n): tuple(target[b, n].tolist())
        for b, n in inside.nonzero().tolist()
    }
    # A centre exactly on the border between two cells may fall either way.
    differing = [
        k for k in expected.keys() | found if expected.get(k) != found.get(k)
    ]
    assert len(differing) < 0.01 * len(expected)


def test_identical_crops_are_matched_completely():
    views = torch.rand(3, 1, 3, 64, 64).mul(255).repeat(1, 2, 1, 1, 1)
    boxes = torch.tensor([[[5.0, 7.0, 60.0, 90.0]] * 2] * 3)
    flips = torch.tensor([[False, False], [True, True], [False, True]])
    views[2, 1] = views[2, 1].flip(-1)
    pairs = TensorDataset(views, boxes, flips)
    assert summarize(match(Colours(), pairs, batch_size=2)) == {
        'recall_at_1': 1,
        'recall_within_1_cell': 1,
        'cells': 2 * 3 * 16,
        'chance_at_1': pytest.approx(1 / 16),
        # Of 4 x 4 cells: 4 corners see 4, 8 edges 6, 4 inner cells 9.
        'chance_within_1_cell': pytest.approx(100 / 16 / 16),
    }


def test_random_features_are_matched_by_chance():
    geometry, grid = random_geometry(300), (6, 6)
    similarity = torch.rand(300, 36, 36)
    found = summarize(count_matches(similarity, geometry, grid))
    assert found['cells'] > 2000
    for where in ('at_1', 'within_1_cell'):
        chance = found[f'chance_{where}']
        deviation = (chance / found['cells']) ** 0.5
        assert abs(found[f'recall_{where}'] - chance) < 4 * deviation


def test_matches_are_counted_as_by_hand():
    geometry, grid = random_geometry(20), (4, 5)
    similarity = torch.rand(20, 20, 20)
    hits = near = 0
    target, inside = target_cells(geometry, grid)
    for b, n in inside.nonzero().tolist():
        row, column = divmod(similarity[b, n].argmax().item(), 5)
        y, x = target[b, n].tolist()
        hits += (row, column) == (y, x)
        near += abs(row - y) <= 1 and abs(column - x) <= 1
    counts = count_matches(similarity, geometry, grid)
    assert counts[[0, 1, 4]].tolist() == [hits, near, inside.sum()]


def test_crops_are_the_same_in_every_run_and_leave_numpy_alone(tmp_path):
    root = make_voc(tmp_path)
    paths = sorted((root / 'JPEGImages').iterdir())
    np.random.seed(3)
    before = np.random.get_state()[1].copy()
    pairs = CropPairs(paths, 32, seed=1)
    first, again = pairs[2], pairs[2]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first[1], pairs[3][1])
    assert not torch.equal(first[1], CropPairs(paths, 32, seed=2)[2][1])
    assert (np.random.get_state()[1] == before).all()
    found = summarize(match(Colours(), CropPairs(paths, 32), batch_size=4))
    assert found['recall_at_1'] > 1.5 * found['chance_at_1']
