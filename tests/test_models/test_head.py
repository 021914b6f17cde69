"""Numbers of any size through the head."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from pixcon_mm.errors import UserError
from pixcon_mm.models.head import normalize
from pixcon_mm.models.neck import ViewFeatures
from tests.test_models import tiny

BATCH, CHANNELS, GRID = 3, 16, (3, 3)


@settings(max_examples=200)
@given(
    row=st.lists(
        st.floats(allow_nan=False, allow_infinity=False, width=32),
        min_size=1,
        max_size=6,
    )
)
def test_rows_of_any_size_become_unit_rows(row):
    rows = torch.tensor([row], requires_grad=True)
    unit = normalize(rows)
    (grad,) = torch.autograd.grad(unit.sum(), rows)
    assert grad.isfinite().all()
    length = unit.detach().double().norm().item()
    assert length < 1 + 1e-6
    if max(map(abs, row)) > 1e-12:
        assert length == pytest.approx(1, abs=1e-6)
        exact = F.normalize(rows.detach().double(), dim=1).float()
        torch.testing.assert_close(unit.detach(), exact, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64])
def test_ordinary_rows_are_normalized_as_by_pytorch(dtype):
    rows = torch.randn(50, 8, dtype=dtype, requires_grad=True)
    ours, theirs = normalize(rows), F.normalize(rows, dim=1)
    assert torch.equal(ours, theirs)
    weight = torch.randn_like(rows)
    grads = [
        torch.autograd.grad((weight * unit).sum(), rows)[0]
        for unit in (ours, theirs)
    ]
    assert torch.equal(*grads)


def test_gradient_of_a_huge_row():
    rows = 1e20 * torch.randn(3, 5, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        normalize, rows.requires_grad_(), eps=1e13, atol=1e-26, rtol=1e-4
    )


@pytest.mark.parametrize('bad', [math.nan, math.inf])
def test_a_bad_row_is_nan(bad):
    unit = normalize(torch.tensor([[bad, 1.0], [3.0, 4.0]]))
    assert unit[0].isnan().all()
    torch.testing.assert_close(unit[1], torch.tensor([0.6, 0.8]))


def views(size=1.0):
    """Both views by both encoders, and their geometry."""
    cells = GRID[0] * GRID[1]
    features = [
        ViewFeatures(
            backbone=size * torch.randn(BATCH, 64, cells),
            image=size * torch.randn(BATCH, CHANNELS),
            cells=size * torch.randn(BATCH, CHANNELS, cells),
            grid=GRID,
        )
        for _ in range(4)
    ]
    return features[:2], features[2:], tiny.batch(BATCH)['data_samples']


def head_and_queue(**reweight):
    reweight = dict(dict(power=2, use_mask=True), **reweight)
    model = tiny.build(head=dict(reweight=reweight))
    return model.head.eval(), model.dense_queue


@pytest.mark.parametrize('use_mask', [True, False])
@pytest.mark.parametrize('size', [1e-30, 1e10, 1e30])
def test_losses_of_huge_and_tiny_features_are_finite(size, use_mask):
    head, queue = head_and_queue(use_mask=use_mask)
    queries, keys, geometry = views(size)
    _, weight, _ = head.match(queries, keys, geometry)
    assert ((weight >= 0) & (weight <= 1)).all()
    for loss, _ in (
        head.dense_loss(queries, keys, geometry, queue),
        head.image_loss(queries, keys, queue),
    ):
        assert loss.isfinite()
        assert loss > 0


@pytest.mark.parametrize('use_mask', [True, False])
@pytest.mark.parametrize('bad', [math.nan, math.inf])
@pytest.mark.parametrize('side', [0, 1])
def test_nan_shows_in_the_loss_and_not_in_the_weights(side, bad, use_mask):
    """As the backbone would give it: through the neck into the cells."""
    head, queue = head_and_queue(use_mask=use_mask)
    *sides, geometry = views()
    _, expected, _ = head.match(*sides, geometry)
    sides[side][0].backbone[1, 5, 4] = bad
    sides[side][0].cells[1, :, 4] = math.nan
    _, weight, _ = head.match(*sides, geometry)
    assert ((weight >= 0) & (weight <= 1)).all()
    others = [0, 2]
    assert torch.equal(weight[:, others], expected[:, others])
    loss, monitors = head.dense_loss(*sides, geometry, queue)
    assert loss.isnan()
    assert monitors['weight'].isfinite()


@pytest.mark.parametrize('power', [0, -1.0, math.nan])
def test_power_must_be_above_zero(power):
    with pytest.raises(UserError, match='power'):
        head_and_queue(power=power)
