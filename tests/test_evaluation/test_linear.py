"""Tests of the linear head: separable classes, and the choice of the rate."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from pixcon_mm.evaluation import linear, training_views
from pixcon_mm.evaluation.dense_data import DenseData
from pixcon_mm.evaluation.linear import (
    LinearHeads,
    evaluate,
    loss_gradient,
    train_heads,
)
from pixcon_mm.evaluation.metrics import IGNORE
from pixcon_mm.evaluation.training_views import VIEWS, Views, random_crop
from tests.test_evaluation.test_nearest_neighbors import Colours
from tests.test_evaluation.trees import COLOURS, make_voc, save

CLASSES = ['background', 'aeroplane', 'bicycle']


@pytest.fixture
def separable(tmp_path):
    """Images of one colour each, which is the class."""
    root = make_voc(tmp_path, train=9, val=3)
    for split, count in dict(train=9, val=3).items():
        for i in range(count):
            mask = np.full((48, 64), i % 3, np.uint8)
            image = np.array([*COLOURS.values()], np.uint8)[mask]
            name = f'{split}{i}'
            save(Image.fromarray(image), root / f'JPEGImages/{name}.jpg')
            save(Image.fromarray(mask), root / f'SegmentationClass/{name}.png')
    return [
        DenseData(root, split, (48, 64), CLASSES) for split in ('train', 'val')
    ]


def test_separable_classes_are_separated_completely(separable):
    train, val = separable
    state = torch.get_rng_state()
    found = evaluate(
        *(Colours(), train, range(9), val, range(3)),
        epochs=30,
        rates=(0.1,),
        batch_size=3,
    )
    assert found['miou'] == found['pixel_accuracy'] == 100
    assert (found['train_images'], found['held_out_images']) == (8, 1)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_rate_is_chosen_on_images_that_are_held_out(
    separable, monkeypatch
):
    train, val = separable
    seen = {'fit': [], 'choose': [], 'test': []}

    def fit(backbone, data, indices, *rest, **others):
        seen['fit'] += indices
        heads = LinearHeads(3, 3, 3)
        for number, head in enumerate(heads.heads):
            torch.nn.init.constant_(head.bias, number)
        return heads

    def segment(backbone, heads, data, indices, size, **others):
        if len(heads.heads) == 3:
            seen['choose'] += indices
            right = torch.eye(3).long()
            return [right.roll(1, 0), right, 0 * right + 1]
        seen['test'] += indices
        assert data is val
        (head,) = heads.heads
        assert head.bias[0] == 1
        return [torch.eye(3).long()]

    monkeypatch.setattr(linear, 'train_heads', fit)
    monkeypatch.setattr(linear, 'segment', segment)
    order = [4, 2, 8, 0, 1, 3, 5, 6, 7]
    found = evaluate(
        *(Colours(), train, order, val, [1]), rates=(0.5, 0.1, 0.2)
    )
    assert seen == {'fit': order[:-1], 'choose': [7], 'test': [1]}
    assert found['rate'] == 0.1


def test_heads_of_several_rates_train_as_if_alone(separable):
    train, _ = separable

    def fit(*rates):
        heads = train_heads(Colours(), train, [0, 1, 2], rates, epochs=2)
        return [head.weight for head in heads.heads]

    alone = [*fit(0.3), *fit(0.01)]
    torch.testing.assert_close(fit(0.3, 0.01), alone)


def test_the_scale_of_features_does_not_matter(separable):
    """Also after a training of a few batches."""
    train, _ = separable

    class Small(Colours):
        def forward(self, images):
            return 0.1 * super().forward(images)

    image = train[1][0][None]
    logits = []
    for backbone in (Colours(), Small()):
        heads = train_heads(backbone, train, [0, 1, 2], (0.1,), epochs=2)
        logits += heads(backbone(image))
    torch.testing.assert_close(*logits, rtol=0.01, atol=0.01)


def test_features_that_do_not_fit_give_the_same_heads(separable, monkeypatch):
    train, _ = separable

    def fit():
        heads = train_heads(
            *(Colours(), train, range(5), (0.1,)), epochs=5, batch_size=2
        )
        return heads.heads[0].weight

    seen = []
    get = DenseData.__getitem__
    monkeypatch.setattr(
        DenseData, '__getitem__', lambda d, i: seen.append(i) or get(d, i)
    )
    kept = fit()
    assert len(seen) == VIEWS * 5
    seen.clear()
    monkeypatch.setattr(training_views, 'CACHE', 0)
    torch.testing.assert_close(fit(), kept)
    assert sorted(seen) == sorted(5 * [*range(5)])  # each once an epoch


def test_crops_take_image_and_mask_alike():
    generator = np.random.default_rng(0)
    mask = torch.arange(200).reshape(1, 200).repeat(200, 1).to(torch.uint8)
    image = mask[None].repeat(3, 1, 1)
    crops = [random_crop(image, mask, generator) for _ in range(8)]
    for view, small in crops:
        assert (view.shape, small.shape) == ((3, 200, 200), (100, 100))
        shrunk = F.interpolate(view[None], (100, 100), mode='area')[0, 0]
        assert (shrunk - small.float()).abs().max() <= 2
    mirrored = {bool(view[0, 0, 0] > view[0, 0, -1]) for view, _ in crops}
    assert mirrored == {True, False}


def test_crops_follow_from_seed_image_and_number(separable):
    train, _ = separable
    crops = Views(train, [7, 2], seed=3)
    assert len(crops) == 2 * VIEWS
    again = Views(train, [2], seed=3)
    for number in range(VIEWS):
        assert torch.equal(again[number][0], crops[VIEWS + number][0])


def test_gradient_is_that_of_the_mean_over_labelled_pixels():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(
        *(2, 3, 4, 5, 6), generator=generator, dtype=torch.float64
    ).requires_grad_()
    targets = torch.randint(4, (2, 11, 13), generator=generator).byte()
    targets[0, :2] = IGNORE
    loss = sum(
        F.cross_entropy(
            F.interpolate(logits[:, head], (11, 13), mode='bilinear'),
            targets.long(),
            ignore_index=IGNORE,
        )
        for head in range(3)
    )
    loss.backward()
    found = loss_gradient(logits.detach(), targets)
    torch.testing.assert_close(found, logits.grad)
    nothing = torch.full_like(targets, IGNORE)
    assert not loss_gradient(logits.detach(), nothing).any()
