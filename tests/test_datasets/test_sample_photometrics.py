"""Sampled numbers, and augmentation that looks like the loader's own."""

import sys

import numpy as np
import pytest

from pixcon_mm.datasets import SamplePhotometrics
from pixcon_mm.datasets.sample_photometrics import DEFAULTS, sample
from pixcon_mm.errors import UserError
from pixcon_mm.models.photometrics import NO_OPERATION
from tests.commands import run


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


def test_data_sets_import_no_models():
    """They take seconds, and the label check of a detector needs none."""
    code = 'import sys, pixcon_mm.datasets; print("mmdet" in sys.modules)'
    assert run(sys.executable, '-c', code).stdout == 'False\n'


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
