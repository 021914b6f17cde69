"""Two-view transforms against slow versions and against Pillow."""

import math
import random

import numpy as np
import pytest
import torch
from mmengine.dataset import default_collate
from PIL import Image

from pixcon_mm.datasets import (
    PackTwoViewInputs,
    PerViewTransforms,
    TwoViewRandomFlip,
    TwoViewRandomResizedCrop,
)
from pixcon_mm.errors import UserError
from pixcon_mm.models.geometry import Geometry, cell_centers, overlap_boxes
from tests.test_datasets.pictures import picture


def shared(pairs):
    """Return the region that each pair of crops shares, as boxes."""
    crops = torch.tensor(pairs, dtype=torch.float32)
    return overlap_boxes(Geometry(crops, torch.zeros(len(pairs), 2).bool()))


def bgr(seed=0, width=64, height=48):
    return np.asarray(picture(seed, width, height))[..., ::-1].copy()


# ---- crops ---------------------------------------------------------------


def slow_pair(width, height, draw):
    """Crops of docs/method.md, section 3.1, written out; None: no pair."""

    def one(first):
        for _ in range(10):
            target = width * height * draw.uniform(0.08, 1.0)
            aspect = math.exp(draw.uniform(math.log(3 / 4), math.log(4 / 3)))
            w = int(round(math.sqrt(target * aspect)))
            h = int(round(math.sqrt(target / aspect)))
            if w <= width and h <= height and w > 0 and h > 0:
                i, j = draw.randint(0, height - h), draw.randint(0, width - w)
                if first is None:
                    return j, i, j + w, i + h
                across = min(j + w, first[2]) - max(j, first[0])
                down = min(i + h, first[3]) - max(i, first[1])
                if across > 0 and down > 0 and across * down >= 0.01 * target:
                    return j, i, j + w, i + h
        return None

    first = one(None)
    if first is None:
        if width / height < 3 / 4:
            w, h = width, int(round(width / (3 / 4)))
        elif width / height > 4 / 3:
            w, h = int(round(height * (4 / 3))), height
        else:
            w, h = width, height
        i, j = (height - h) // 2, (width - w) // 2
        first = j, i, j + w, i + h
    second = one(first)
    return None if second is None else (first, second)


def describe(pairs, width, height):
    """Mean and spread of what a pair of crops is made of."""
    crops = torch.tensor(pairs, dtype=torch.float32)
    size = crops[..., 2:] - crops[..., :2]
    boxes = shared(pairs)
    sides = boxes[..., 2:] - boxes[..., :2]
    features = torch.cat(
        [
            size.prod(-1) / (width * height),
            (size[..., 0] / size[..., 1]).log(),
            crops[..., 0] / width,
            crops[..., 1] / height,
            sides.prod(-1),
        ],
        dim=1,
    )
    return features.mean(0), features.std(0)


@pytest.mark.parametrize('size', [(640, 480), (427, 640), (640, 240)])
def test_crops_are_distributed_as_by_the_slow_sampler(size):
    count = 3000
    crop = TwoViewRandomResizedCrop()
    ours = [crop.sample_boxes(*size) for _ in range(count)]
    draw = random.Random(0)
    theirs = [slow_pair(*size, draw) for _ in range(count)]
    skipped = [
        sum(p is None for p in pairs) / count for pairs in (ours, theirs)
    ]
    assert abs(skipped[0] - skipped[1]) < 0.02
    if size == (640, 240):
        # The share the audit of the release found, by simulation.
        assert 0.08 < skipped[0] < 0.12
    ours, theirs = ([p for p in pairs if p] for pairs in (ours, theirs))
    (mean, std), (mean_slow, std_slow) = (
        describe(pairs, *size) for pairs in (ours, theirs)
    )
    # Five standard errors of a difference of means.
    tolerance = 5 * std_slow * (2 / count) ** 0.5
    assert ((mean - mean_slow).abs() < tolerance).all()
    assert ((std / std_slow).log().abs() < 0.1).all()


@pytest.mark.parametrize('min_overlap', [0.01, 0.5])
def test_crops_keep_their_promises(min_overlap):
    crop = TwoViewRandomResizedCrop(min_overlap=min_overlap)
    pairs = [crop.sample_boxes(300, 200) for _ in range(500)]
    refused = sum(pair is None for pair in pairs)
    assert refused > 50 if min_overlap == 0.5 else refused < 5
    for pair in filter(None, pairs):
        for x1, y1, x2, y2 in pair:
            assert 0 <= x1 < x2 <= 300
            assert 0 <= y1 < y2 <= 200
            # Rounding moves each side by half a pixel at most.
            assert 0.07 < (x2 - x1) * (y2 - y1) / 60000 <= 1
            assert 0.72 < (x2 - x1) / (y2 - y1) < 1.38
        box = shared([pair])[0, 1]
        assert (box[2:] - box[:2]).prod() > min_overlap * 0.95


def never_fits(**options):
    """Draws of aspect 4:3 do not fit into a strip."""
    return TwoViewRandomResizedCrop(area_range=(0.9, 1.0), **options)


@pytest.mark.parametrize(
    ('size', 'central'),
    [((90, 10), (38, 0, 51, 10)), ((10, 90), (0, 38, 10, 51))],
)
def test_center_fallback_is_the_central_crop_twice(size, central):
    crop = never_fits(on_no_overlap='center')
    image = bgr(0, *size)
    results = crop(dict(img=image))
    assert results['crop_boxes'].tolist() == [list(central)] * 2
    assert np.array_equal(*results['img'])
    for flips in ([False, False], [True, False], [False, True], [True] * 2):
        boxes = torch.from_numpy(results['crop_boxes'])
        overlap = overlap_boxes(Geometry(boxes, torch.tensor(flips)))
        assert overlap.tolist() == [[0, 0, 1, 1]] * 2


def test_skip_returns_none():
    assert never_fits()(dict(img=bgr(0, 90, 10))) is None


def test_without_overlap_condition_every_pair_counts():
    crop = TwoViewRandomResizedCrop(min_overlap=0.0, area_range=(0.01, 0.05))
    boxes = shared([crop.sample_boxes(100, 100) for _ in range(200)])
    assert (boxes.amax((1, 2)) == 0).any()


@pytest.mark.parametrize('size', [(1, 1), (2, 3), (3, 1)])
def test_tiny_images_give_views(size):
    crop = TwoViewRandomResizedCrop(8, on_no_overlap='center')
    for _ in range(20):
        results = crop(dict(img=bgr(0, *size)))
        assert [view.shape for view in results['img']] == [(8, 8, 3)] * 2


@pytest.mark.parametrize(
    'wrong',
    [
        dict(on_no_overlap='centre'),
        dict(area_range=(0.5, 0.1)),
        dict(area_range=(0.0, 1.0)),
        dict(aspect_range=(0, 1)),
        dict(min_overlap=1.5),
    ],
)
def test_wrong_arguments_are_named(wrong):
    (name,) = wrong
    with pytest.raises(UserError, match=name):
        TwoViewRandomResizedCrop(**wrong)


@pytest.mark.parametrize('scale', [24, (32, 20), 96, 224])
def test_resize_equals_pillow(scale):
    """Cropped first, then resized with antialiasing, up to rounding."""
    image = bgr(5, 160, 120)
    crop = TwoViewRandomResizedCrop(scale)
    results = crop(dict(img=image))
    size = (scale, scale) if isinstance(scale, int) else scale
    for view, box in zip(
        results['img'], results['crop_boxes'].astype(int), strict=True
    ):
        rgb = Image.fromarray(image[..., ::-1])
        expected = rgb.crop(box.tolist()).resize(
            size, Image.Resampling.BILINEAR
        )
        np.testing.assert_allclose(
            view[..., ::-1].astype(int), np.asarray(expected, int), atol=1
        )
    assert results['img_shape'] == size[::-1]


# ---- flips, photometrics, packing ----------------------------------------


def test_flips_are_independent_and_noted():
    flip = TwoViewRandomFlip()
    views = [bgr(0), bgr(1)]
    seen = []
    for _ in range(400):
        results = flip(dict(img=list(views), crop_boxes='kept'))
        assert results['crop_boxes'] == 'kept'
        seen.append(results['flips'].tolist())
        for before, after, flipped in zip(
            views, results['img'], results['flips'], strict=True
        ):
            expected = before[:, ::-1] if flipped else before
            assert np.array_equal(after, expected)
    for case in ([False] * 2, [True] * 2, [True, False], [False, True]):
        assert 65 < seen.count(case) < 135
    assert not TwoViewRandomFlip(0.0)(dict(img=views))['flips'].any()
    assert TwoViewRandomFlip(1.0)(dict(img=views))['flips'].all()


def test_each_view_has_its_own_pipeline():
    transform = PerViewTransforms(
        [[], [dict(type='Solarize', thr=128, prob=1.0)]]
    )
    views = [bgr(0), bgr(0)]
    results = transform(dict(img=list(views), crop_boxes='kept', sample_idx=3))
    assert np.array_equal(results['img'][0], views[0])
    inverted = np.where(views[1] >= 128, 255 - views[1], views[1])
    assert np.array_equal(results['img'][1], inverted)
    assert results['crop_boxes'] == 'kept'
    assert results['sample_idx'] == 3


def test_there_must_be_two_pipelines():
    with pytest.raises(UserError, match='two pipelines, one per view, not 1'):
        PerViewTransforms([[]])


def test_geometric_transforms_are_refused():
    transform = PerViewTransforms([[], [dict(type='Resize', scale=(8, 8))]])
    with pytest.raises(UserError, match='photometric'):
        transform(dict(img=[bgr(), bgr()]))


def test_pack_without_flips():
    boxes = np.zeros((2, 4), dtype=np.float32)
    packed = PackTwoViewInputs()(dict(img=[bgr(), bgr()], crop_boxes=boxes))
    assert packed['data_samples']['flips'].tolist() == [False, False]


def test_pipeline_to_batch_puts_pixels_where_the_boxes_say():
    """Views of a coordinate image show the coordinates of their crop."""
    width, height = 200, 150
    image = np.zeros((height, width, 3), dtype=np.uint8)
    image[..., 0] = np.arange(width)
    image[..., 1] = np.arange(height)[:, None]
    steps = [
        TwoViewRandomResizedCrop(32),
        TwoViewRandomFlip(),
        PerViewTransforms([[], []]),
        PackTwoViewInputs(),
    ]
    samples = []
    while len(samples) < 16:
        results = dict(img=image)
        for step in steps:
            results = step(results)
        samples.append(results)
    batch = default_collate(samples)
    assert [v.shape for v in batch['inputs']] == [(16, 3, 32, 32)] * 2
    assert [v.dtype for v in batch['inputs']] == [torch.uint8] * 2
    geometry = batch['data_samples']
    assert geometry['crop_boxes'].shape == (16, 2, 4)
    assert geometry['crop_boxes'].dtype == torch.float32
    assert geometry['flips'].shape == (16, 2)

    centres = cell_centers(Geometry(**geometry), (32, 32))
    for v in range(2):
        pixels = batch['inputs'][v][:, :2].flatten(2).transpose(1, 2).float()
        # Pixel i spans [i, i + 1): its centre is half a pixel further. Edge
        # cells of an enlarged crop repeat the outermost pixel.
        gap = (pixels + 0.5 - centres[:, v]).view(16, 32, 32, 2)
        assert gap[:, 3:-3, 3:-3].abs().max() <= 1.01
