"""Matching and weights against loops over cells."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pixcon_mm.models.matching import (
    cell_similarity,
    match_by_coordinate,
    match_by_similarity,
    semantic_weights,
)


def weights_by_hand(similarity, mask, power):
    rows = []
    for r, inside in zip(similarity.tolist(), mask.tolist(), strict=True):
        lowest = min(r)
        outside = [x for x, m in zip(r, inside, strict=True) if not m]
        row = []
        for x, m in zip(r, inside, strict=True):
            if m or max(outside) - lowest < 1e-6:
                row.append(1.0)
            else:
                share = (x - lowest) / (max(outside) - lowest)
                row.append(share**power)
        rows.append(row)
    return torch.tensor(rows, dtype=similarity.dtype)


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    cells=st.integers(1, 12),
    inside=st.floats(0, 1),
    power=st.sampled_from([1, 2, 4]),
)
def test_weights_equal_the_loop(seed, cells, inside, power):
    generator = torch.Generator().manual_seed(seed)
    r = torch.rand(5, cells, generator=generator, dtype=torch.float64)
    mask = torch.rand(5, cells, generator=generator) < inside
    torch.testing.assert_close(
        semantic_weights(r, mask, power), weights_by_hand(r, mask, power)
    )


def test_all_inside_counts_one():
    r = torch.rand(3, 49)
    weights = semantic_weights(r, torch.ones(3, 49, dtype=torch.bool))
    assert torch.equal(weights, torch.ones(3, 49))


def test_none_inside_is_plain_min_max():
    r = torch.rand(3, 49)
    low, high = r.amin(1, True), r.amax(1, True)
    torch.testing.assert_close(
        semantic_weights(r, torch.zeros(3, 49, dtype=torch.bool)),
        ((r - low) / (high - low)) ** 2,
    )


def test_equal_similarity_stays_finite():
    """The release gives 0/0 here (bug A1)."""
    mask = torch.zeros(1, 9, dtype=torch.bool)
    mask[0, :3] = True
    weights = semantic_weights(torch.full((1, 9), 0.7), mask)
    assert torch.equal(weights, torch.ones(1, 9))


def test_lowest_is_of_all_cells_and_highest_of_those_outside():
    r = torch.tensor([[0.0, 0.9, 0.2, 0.6]])
    mask = torch.tensor([[True, True, False, False]])
    weights = semantic_weights(r, mask, power=1)
    torch.testing.assert_close(weights, torch.tensor([[1, 1, 1 / 3, 1]]))


def test_without_mask_it_is_a_power():
    r = torch.tensor([[0.5, 1.0, -0.3]], requires_grad=True)
    weights = semantic_weights(r, None, power=2, use_mask=False)
    torch.testing.assert_close(weights, torch.tensor([[0.25, 1.0, 0.0]]))
    assert not weights.requires_grad


def test_similarity_matches_the_loop():
    query, key = torch.rand(2, 6, 4), torch.rand(2, 6, 5)
    best, index = match_by_similarity(cell_similarity(query, key))
    for b in range(2):
        for i in range(4):
            cosines = [
                torch.cosine_similarity(query[b, :, i], key[b, :, j], dim=0)
                for j in range(5)
            ]
            assert index[b, i] == torch.stack(cosines).argmax()
            torch.testing.assert_close(best[b, i], max(cosines))


def test_zero_feature_has_similarity_zero():
    similarity = cell_similarity(torch.zeros(1, 8, 3), torch.rand(1, 8, 3))
    assert torch.equal(similarity, torch.zeros(1, 3, 3))


def test_similarity_stays_float32_under_autocast():
    """Two keys that half precision cannot tell apart (bug A2)."""
    query = torch.tensor([[[1.0], [0.0]]])
    key = torch.tensor([[[1.0, 1.0], [2e-2, 1e-2]]])
    with torch.autocast('cpu', dtype=torch.bfloat16):
        similarity = cell_similarity(query, key)
        index = match_by_similarity(similarity)[1]
    assert similarity.dtype == torch.float32
    assert index.item() == 1
    tied = (query.bfloat16().transpose(1, 2) @ key.bfloat16()).squeeze()
    assert tied[0] == tied[1]


@pytest.mark.parametrize('sizes', [(4, 4), (9, 25)])
def test_coordinates_match_the_loop(sizes):
    query, key = (torch.rand(3, n, 2) * 300 for n in sizes)
    distance, index = match_by_coordinate(query, key)
    for b in range(3):
        for i in range(sizes[0]):
            each = (key[b] - query[b, i]).norm(dim=1)
            assert index[b, i] == each.argmin()
            torch.testing.assert_close(distance[b, i], each.min())
