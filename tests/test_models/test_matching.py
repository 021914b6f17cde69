"""Matching and weights against loops over cells."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pixcon_mm.models.matching import (
    HUGE,
    cell_similarity,
    match_by_coordinate,
    match_by_similarity,
    semantic_weights,
)

DTYPES = {torch.float16: 16, torch.float32: 32, torch.float64: 64}


@st.composite
def features(draw, dtype):
    """Two maps (1, D, N) of any finite numbers, zero vectors included."""
    number = st.floats(
        allow_nan=False, allow_infinity=False, width=DTYPES[dtype]
    )
    channels = draw(st.integers(1, 4))
    maps = []
    for _ in range(2):
        vector = st.lists(number, min_size=channels, max_size=channels)
        cells = draw(st.lists(vector, min_size=1, max_size=3))
        maps.append(torch.tensor(cells, dtype=dtype).T[None])
    return maps


def cosine(a, b):
    """Cosine of two lists of numbers; 0 if one of them is all zeros."""
    a, b = ([x / (max(map(abs, v)) or 1) for x in v] for v in (a, b))
    length = math.hypot(*a) * math.hypot(*b)
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / length if length else 0.0


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


@settings(max_examples=60)
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


@pytest.mark.parametrize('dtype', DTYPES)
@settings(max_examples=100)
@given(data=st.data())
def test_similarity_of_any_numbers_is_the_cosine(dtype, data):
    query, key = data.draw(features(dtype))
    similarity = cell_similarity(query, key)
    assert similarity.dtype == torch.promote_types(dtype, torch.float32)
    assert (similarity.abs() <= 1).all()
    for i, a in enumerate(query[0].T.tolist()):
        for j, b in enumerate(key[0].T.tolist()):
            assert similarity[0, i, j] == pytest.approx(
                cosine(a, b), rel=1e-5, abs=1e-6
            )


@pytest.mark.parametrize('size', [1e-45, 1e-30, 1e10, 1e25, 3e38])
def test_similarity_does_not_depend_on_size(size):
    angle = torch.arange(8) * math.pi / 4
    signs = torch.stack([angle.cos(), angle.sin()])[None].round()
    expected = cell_similarity(signs, signs)
    torch.testing.assert_close(cell_similarity(size * signs, signs), expected)
    torch.testing.assert_close(
        cell_similarity(size * signs, size * signs), expected
    )


def test_similarity_of_ordinary_features_is_the_plain_formula():
    """Bit for bit: scaling must not turn one match into another."""
    query, key = torch.randn(2, 64, 9), torch.randn(2, 64, 7)
    for size in (1e-6, 1.0, HUGE / 10):
        query, key = query * size, key * size
        plain = query.transpose(1, 2) @ key
        plain = (
            plain / query.norm(dim=1)[:, :, None] / key.norm(dim=1)[:, None]
        )
        assert torch.equal(cell_similarity(query, key), plain)
        query, key = query / size, key / size


@pytest.mark.parametrize('bad', [math.nan, math.inf])
def test_a_bad_feature_shows_in_its_own_similarity(bad):
    query, key = torch.rand(2, 6, 4), torch.rand(2, 6, 5)
    expected = cell_similarity(query, key)
    query[0, 2, 1] = bad
    similarity = cell_similarity(query, key)
    is_bad = torch.zeros(2, 4, 5, dtype=torch.bool)
    is_bad[0, 1] = True
    assert torch.equal(similarity.isnan(), is_bad)
    assert torch.equal(similarity[~is_bad], expected[~is_bad])


@settings(max_examples=200)
@given(
    cells=st.lists(
        st.tuples(st.floats(width=32), st.booleans()), min_size=1, max_size=6
    ),
    power=st.floats(1e-3, 1e3),
    use_mask=st.booleans(),
)
def test_weights_lie_between_0_and_1(cells, power, use_mask):
    similarity, mask = (
        torch.tensor([part]) for part in zip(*cells, strict=True)
    )
    weights = semantic_weights(similarity, mask, power, use_mask)
    assert ((weights >= 0) & (weights <= 1)).all(), weights


def test_weights_above_1_by_rounding_are_1():
    similarity = torch.tensor([[1 + 1e-5, 0.5]])
    weights = semantic_weights(similarity, None, use_mask=False)
    assert torch.equal(weights, torch.tensor([[1.0, 0.25]]))


@pytest.mark.parametrize('use_mask', [True, False])
def test_a_bad_similarity_counts_1_and_changes_no_other_weight(use_mask):
    r, mask = torch.rand(3, 9), torch.rand(3, 9) < 0.3
    with_bad = torch.cat([r, torch.full((3, 1), math.nan)], dim=1)
    for inside in (False, True):
        more = torch.cat([mask, torch.full((3, 1), inside)], dim=1)
        weights = semantic_weights(with_bad, more, 2, use_mask)
        expected = semantic_weights(r, mask, 2, use_mask)
        assert torch.equal(weights[:, :-1], expected)
        assert torch.equal(weights[:, -1], torch.ones(3))


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
