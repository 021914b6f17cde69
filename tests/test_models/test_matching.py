"""Matching and weights against loops over cells."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from pixcon_mm.models.matching import (
    cell_similarity,
    match_by_coordinate,
    match_by_similarity,
    normalize,
    semantic_weights,
)

DTYPES = torch.float16, torch.float32, torch.float64


# ---- unit rows -----------------------------------------------------------


@pytest.mark.parametrize('size', [0, 1e-30, 1e-6, 1e10])
def test_rows_become_unit_rows_with_a_finite_gradient(size):
    rows = (size * torch.randn(50, 8)).requires_grad_()
    unit = normalize(rows)
    (grad,) = torch.autograd.grad(unit.sum(), rows)
    assert grad.isfinite().all()
    lengths = torch.full((50,), float(size > 1e-12))
    torch.testing.assert_close(unit.norm(dim=1), lengths)
    half = rows.detach().bfloat16()
    assert torch.equal(normalize(half), F.normalize(half.float(), dim=1))


# ---- similarity ----------------------------------------------------------


def cosine(a, b):
    """Cosine of two lists of numbers; 0 if one of them is all zeros."""
    length = math.hypot(*a) * math.hypot(*b)
    dot = sum(x * y for x, y in zip(a, b, strict=True))
    return dot / length if length else 0.0


@pytest.mark.parametrize('dtype', DTYPES)
@settings(max_examples=100)
@given(data=st.data())
def test_similarity_is_the_cosine(dtype, data):
    channels = data.draw(st.integers(1, 4))
    number = st.integers(-100, 100)
    vector = st.lists(number, min_size=channels, max_size=channels)
    cells = [data.draw(st.lists(vector, min_size=1, max_size=3)) for _ in '01']
    query, key = (torch.tensor(part, dtype=dtype).T[None] for part in cells)
    similarity = cell_similarity(query, key)
    assert similarity.dtype == torch.promote_types(dtype, torch.float32)
    assert (similarity.abs() <= 1).all()
    for i, a in enumerate(query[0].T.tolist()):
        for j, b in enumerate(key[0].T.tolist()):
            assert similarity[0, i, j] == pytest.approx(
                cosine(a, b), rel=1e-5, abs=1e-6
            )


def test_similarity_of_ordinary_features_is_the_plain_formula():
    """Bit for bit, as rounding may turn one match into another."""
    query, key = torch.randn(2, 64, 9), torch.randn(2, 64, 7)
    for size in (1e-6, 1.0, 1e10):
        q, k = query * size, key * size
        plain = q.transpose(1, 2) @ k
        plain = plain / q.norm(dim=1)[:, :, None] / k.norm(dim=1)[:, None]
        assert torch.equal(cell_similarity(q, k), plain)
        best, index = match_by_similarity(plain)
        assert torch.equal(index, plain.argmax(2))
        assert torch.equal(best, plain.amax(2))


def test_similarity_stays_float32_under_autocast():
    """Two keys that half precision cannot tell apart."""
    query = torch.tensor([[[1.0], [0.0]]])
    key = torch.tensor([[[1.0, 1.0], [2e-2, 1e-2]]])
    with torch.autocast('cpu', dtype=torch.bfloat16):
        similarity = cell_similarity(query, key)
    assert similarity.dtype == torch.float32
    assert match_by_similarity(similarity)[1].item() == 1
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


# ---- weights -------------------------------------------------------------


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
    inside=st.sampled_from([0, 0.3, 0.8, 1]),
    power=st.sampled_from([1, 2, 4]),
)
def test_weights_equal_the_loop(seed, cells, inside, power):
    generator = torch.Generator().manual_seed(seed)
    r = torch.rand(5, cells, generator=generator, dtype=torch.float64)
    r[0] = 0.7  # all equally similar: 0/0 in the release
    mask = torch.rand(5, cells, generator=generator) < inside
    torch.testing.assert_close(
        semantic_weights(r, mask, power), weights_by_hand(r, mask, power)
    )


def test_without_mask_it_is_a_power():
    """Rounding above 1 and negative similarities are cut off."""
    r = torch.tensor([[0.5, 1 + 1e-5, -0.3]], requires_grad=True)
    mask = torch.ones(1, 3, dtype=torch.bool)
    weights = semantic_weights(r, mask, power=2, use_mask=False)
    assert torch.equal(weights, torch.tensor([[0.25, 1.0, 0.0]]))
    assert not weights.requires_grad


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
