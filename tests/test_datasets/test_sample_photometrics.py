"""Sampled numbers, and augmentation that looks like the loader's own."""

import numpy as np
import pytest
import torch
from mmengine.dataset import default_collate
from scipy.stats import ks_2samp
from skimage import data

from pixcon_mm.datasets import (
    PackTwoViewInputs,
    PerViewTransforms,
    SamplePhotometrics,
    TwoViewRandomFlip,
    TwoViewRandomResizedCrop,
)
from pixcon_mm.datasets.sample_photometrics import DEFAULTS, sample
from pixcon_mm.errors import UserError
from pixcon_mm.models import TwoViewDataPreprocessor
from pixcon_mm.models.photometrics import NO_OPERATION
from tests.test_datasets.test_transforms import photometric

BYOL = [dict(blur=1.0), dict(blur=0.1, solarize=0.2)]
VIEWS = 1000  # of each kind


@pytest.fixture(autouse=True)
def _seeded_numpy():
    np.random.seed(0)


@pytest.mark.parametrize(
    ('wrong', 'named'),
    [
        ([{}], 'not 1'),
        ([{}, dict(blurr=0.1)], 'blurr'),
        ([{}, dict(blur=1.1)], 'blur=1.1'),
        ([dict(hue=0.6), {}], 'hue=0.6'),
        ([dict(contrast=-1), {}], 'contrast=-1'),
        ([dict(sigma=(2, 1)), {}], r'sigma.*\(2, 1\)'),
    ],
)
def test_wrong_settings_are_named(wrong, named):
    with pytest.raises(UserError, match=named):
        SamplePhotometrics(wrong)


def test_numbers_follow_the_settings():
    settings = dict(
        jitter=0.7,
        brightness=0.4,
        contrast=0.3,
        saturation=0.2,
        hue=0.1,
        grayscale=0.25,
        blur=0.6,
        sigma=(0.5, 1.5),
        solarize=0.1,
    )
    numbers = [sample(DEFAULTS | settings) for _ in range(4000)]
    numbers = {
        name: np.stack([d[name] for d in numbers]) for name in numbers[0]
    }
    jittered = numbers['order'][:, 0] != NO_OPERATION
    sigma = numbers['sigma'][numbers['sigma'] > 0]
    shares = (
        (jittered.mean(), 0.7),
        (numbers['grayscale'].mean(), 0.25),
        ((numbers['sigma'] > 0).mean(), 0.6),
        (numbers['solarize'].mean(), 0.1),
    )
    for share, expected in shares:
        assert share == pytest.approx(expected, abs=0.03)
    center = (numbers['factors'] - (1, 1, 1, 0)) / (0.4, 0.3, 0.2, 0.1)
    assert abs(center).max() <= 1 + 1e-6
    for uniform in (*center.T, (sigma - 1) / 0.5):
        assert uniform.mean() == pytest.approx(0, abs=0.04)
        assert uniform.std() == pytest.approx(3**-0.5, abs=0.02)
    # Each operation is as often first, second, third and last.
    for position in numbers['order'][jittered].T:
        counts = np.bincount(position, minlength=4) / jittered.sum()
        assert counts == pytest.approx([0.25] * 4, abs=0.03)
    # Numbers of different operations are independent.
    signals = np.column_stack([center, numbers['grayscale'], jittered])
    correlation = np.corrcoef(signals.T) - np.eye(signals.shape[1])
    assert abs(correlation).max() < 0.06


def views(colours):
    """Both views of many crops of photographs, by one of the two ways."""
    photographs = [data.astronaut(), data.coffee(), data.chelsea()]
    crop, flip = TwoViewRandomResizedCrop(64), TwoViewRandomFlip()
    pack = PackTwoViewInputs()
    samples = []
    while len(samples) < VIEWS:
        image = photographs[len(samples) % 3][..., ::-1]
        results = crop(dict(img=image))
        if results is not None:
            samples.append(pack(colours(flip(results))))
    finish = TwoViewDataPreprocessor(bgr_to_rgb=True)
    inputs = finish(default_collate(samples))['inputs']
    return [view / 255 for view in inputs]


def statistics(view):
    """Per-channel mean and deviation, saturation and sharpness. (S, B)."""
    pixels = view.flatten(2)
    darkest, brightest = pixels.amin(1), pixels.amax(1)
    saturation = ((brightest - darkest) / brightest.clamp(min=1e-3)).mean(1)
    edges = view.diff(dim=3).abs().mean((1, 2, 3))
    edges = edges + view.diff(dim=2).abs().mean((1, 2, 3))
    return torch.stack(
        [*pixels.mean(2).T, *pixels.std(2).T, saturation, edges]
    )


def likelihood(a, b):
    """Least p-value over the statistics: are they one distribution?"""
    return min(
        ks_2samp(x, y).pvalue
        for x, y in zip(statistics(a), statistics(b), strict=True)
    )


@pytest.mark.slow
def test_device_augmentation_looks_like_the_loaders():
    """Independent draws of 1,000 pairs each way, view by view."""
    device = views(SamplePhotometrics(BYOL))
    loader = views(
        PerViewTransforms([photometric(1.0, 0.0), photometric(0.1, 0.2)])
    )
    for ours, theirs in zip(device, loader, strict=True):
        # The least of eight: 0.01 is nothing unusual.
        assert likelihood(ours, theirs) > 0.005
    # The test can tell: the views differ from each other and from others.
    assert likelihood(device[0], device[1]) < 1e-6
    other = views(SamplePhotometrics([dict(grayscale=0.35), dict(blur=0.5)]))
    for ours, theirs in zip(other, loader, strict=True):
        assert likelihood(ours, theirs) < 1e-4
