"""Matching variants and numbers of any size through the head."""

import itertools
import math

import pytest
import torch

from pixcon_mm.errors import UserError
from pixcon_mm.models.geometry import Geometry
from pixcon_mm.models.head import pair_views, positive_margin
from pixcon_mm.models.key_encoder import ViewKeys
from pixcon_mm.models.matching import normalize
from pixcon_mm.models.neck import ViewFeatures
from tests.test_models import tiny

BATCH, CHANNELS, GRID, CELLS = 3, 16, (3, 3), 9
COORD = dict(matching='coordinate', reweight=None)


def pairs(size=1.0, geometry=None):
    """Both directions of random features; the same for each seed."""
    geometry = geometry or Geometry(**tiny.batch(BATCH)['data_samples'])
    queries, keys = [], []
    for _ in range(2):
        backbone = size * torch.randn(2, BATCH, 64, CELLS)
        cells = size * torch.randn(2, BATCH, CELLS, CHANNELS)
        image = size * torch.randn(2, BATCH, CHANNELS)
        queries.append(ViewFeatures(backbone[0], image[0], cells[0], GRID))
        mean = normalize(cells[1].mean(1))
        unit = normalize(image[1]), normalize(cells[1])
        keys.append(ViewKeys(backbone[1], *unit, mean))
    return pair_views(queries, keys, geometry)


def head_and_queue(**head):
    model = tiny.build(head=head)
    return model.head.eval(), model.dense_queue.features


def matches(directions, **head):
    return [head_and_queue(**head)[0].match(pair) for pair in directions]


# ---- variants ------------------------------------------------------------


def test_sim_is_the_plain_mean():
    for match in matches(pairs(), reweight=None):
        assert torch.equal(match.weight, torch.ones(BATCH, CELLS))
        assert 0 < match.in_overlap.float().mean() < 1


@pytest.mark.parametrize('flip', [False, True])
def test_coordinates_of_equal_crops(flip):
    """The identity, or its mirror image."""
    crop = torch.tensor([0.0, 0.0, 96.0, 96.0]).expand(BATCH, 2, 4)
    flips = torch.tensor([[flip, False]]).expand(BATCH, 2)
    expected = [2, 1, 0, 5, 4, 3, 8, 7, 6] if flip else list(range(9))
    for match in matches(pairs(geometry=Geometry(crop, flips)), **COORD):
        assert match.key_cell.tolist() == [expected] * BATCH
        assert match.weight.all()
        assert match.in_overlap.all()


def test_reweighted_coord_joins_both_matchings():
    directions = pairs()
    for both, coord, sim in zip(
        matches(directions, matching='coordinate'),
        matches(directions, **COORD),
        matches(directions),
        strict=True,
    ):
        mask = both.in_overlap
        assert 0 < mask.float().mean() < 1
        assert torch.equal(coord.weight, mask.float())
        joined = torch.where(mask, coord.key_cell, sim.key_cell)
        assert torch.equal(both.key_cell, joined)
        assert torch.equal(both.weight, sim.weight)
        assert (both.weight[mask] == 1).all()


def test_max_distance_leaves_out_far_matches():
    """Without a threshold, nearest means within half a key diagonal."""
    far, some, none = (
        matches(pairs_, **COORD, max_distance=d)[0].weight.mean()
        for pairs_ in [pairs()]
        for d in (None, 0.2, 0.0)
    )
    assert none < some < far


def test_coord_without_overlap_adds_nothing():
    boxes = torch.tensor([[0.0, 0, 50, 50], [100, 100, 200, 200]])
    apart = Geometry(boxes.expand(BATCH, 2, 4), torch.zeros(BATCH, 2).bool())
    head, queue = head_and_queue(**COORD)
    loss, _ = head.dense_loss(pairs(geometry=apart), queue)
    assert loss.item() == 0
    loss.backward()
    assert not any(p.grad.any() for p in head.dense_predictor.parameters())


# ---- numbers -------------------------------------------------------------


@pytest.mark.parametrize('use_mask', [True, False])
@pytest.mark.parametrize('size', [1e-6, 1e10])
def test_losses_of_huge_and_tiny_features_are_finite(size, use_mask):
    head, queue = head_and_queue(reweight=dict(use_mask=use_mask))
    directions = pairs(size)
    for loss_of in (head.dense_loss, head.image_loss):
        loss, monitors = loss_of(directions, queue)
        assert loss.isfinite()
        assert loss > 0
    assert 0 <= monitors.get('weight', 0) <= 1


@pytest.mark.parametrize('use_mask', [True, False])
@pytest.mark.parametrize('bad', [math.nan, math.inf])
@pytest.mark.parametrize('side', ['query', 'key'])
def test_nan_shows_in_the_loss_and_not_in_the_weights(side, bad, use_mask):
    """NaN comes from the backbone, through the neck into the cells."""
    head, queue = head_and_queue(reweight=dict(use_mask=use_mask))
    directions = pairs()
    expected = head.match(directions[0]).weight
    features = getattr(directions[0], side)
    features.backbone[1, 5, 4] = bad
    features.cells[1] = math.nan
    weight = head.match(directions[0]).weight
    assert ((weight >= 0) & (weight <= 1)).all()
    others = [0, 2]
    assert torch.equal(weight[others], expected[others])
    loss, monitors = head.dense_loss(directions, queue)
    assert loss.isnan()
    assert monitors['weight'].isfinite()


@pytest.mark.parametrize(
    'wrong',
    [
        dict(matching='both'),
        dict(mask_rule='all'),
        dict(reweight=dict(pow=2)),
        dict(reweight=dict(power=0)),
        dict(reweight=dict(power=math.nan)),
        dict(max_distance=1.0),
    ],
)
def test_wrong_settings_are_refused(wrong):
    (name,) = wrong
    with pytest.raises(UserError, match=name):
        head_and_queue(**wrong)


# ---- monitors ------------------------------------------------------------


def test_the_margin_tells_images_from_places():
    """Queries that know the place alone have none, others do."""
    generator = torch.Generator().manual_seed(0)
    shape = (2, 5, 9, 64)
    place, image = (
        normalize(torch.randn(size, generator=generator))
        for size in ((1, 1, *shape[2:]), (2, 5, 1, 64))
    )
    keys = normalize(place + image)
    assert positive_margin(place.expand(shape), keys).abs() < 1e-6
    margin = positive_margin(image.expand(shape), keys)
    loop = [
        image[d, b, 0] @ (keys[d, b, n] - keys[d, b - 1, n])
        for d, b, n in itertools.product(*map(range, shape[:3]))
    ]
    assert margin > 0.5
    torch.testing.assert_close(margin, torch.stack(loop).mean())
