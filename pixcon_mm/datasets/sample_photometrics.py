"""Random parameters of the photometric augmentation, one set per view."""

import numpy as np
from mmcv.transforms import BaseTransform
from mmpretrain.registry import TRANSFORMS

from pixcon_mm.errors import UserError

# Settings of BYOL's first view. Its second view has less blur, and
# solarisation.
DEFAULTS = dict(
    jitter=0.8,
    brightness=0.4,
    contrast=0.4,
    saturation=0.2,
    hue=0.1,
    grayscale=0.2,
    blur=1.0,
    sigma=(0.1, 2.0),
    solarize=0.0,
)
# Stands for no operation in the order of the colour jitter, as in
# pixcon_mm.models.photometrics. Importing that would import MMPretrain's
# models, which the data sets of other tasks do not need.
NO_OPERATION = 4
# Upper bounds of settings; all others are probabilities and factors up to 1.
HIGHEST = dict(hue=0.5)


@TRANSFORMS.register_module()
class SamplePhotometrics(BaseTransform):
    """Sample the photometric augmentation of each view, without applying it.

    The numbers travel with the views, and ``TwoViewDataPreprocessor``
    applies them to the whole batch on the model's device. That relieves the
    CPU of about three quarters of a pipeline's work. The distribution is that
    of ``PerViewTransforms`` with RandomApply(ColorJitter), RandomGrayscale,
    GaussianBlur and Solarize (docs/method.md, section 3.2).

    Added key: ``photometrics``, a dict of arrays whose first dimension is
    V: see :func:`sample`.

    Args:
        views (list[dict]): Settings of each view, which replace those of
            ``DEFAULTS``. ``jitter``, ``grayscale``, ``blur`` and ``solarize``
            are probabilities. ``brightness``, ``contrast`` and ``saturation``
            x give factors from 1 - x to 1 + x, ``hue`` x a rotation from -x
            to x turns. ``sigma`` is the range (low, high) of the blur's
            standard deviation in pixels.
    """

    def __init__(self, views: list[dict]):
        if len(views) != 2:
            raise UserError(
                'SamplePhotometrics needs two sets of settings, one per view, '
                f'not {len(views)}.'
            )
        self.views = [complete(settings) for settings in views]

    def transform(self, results: dict) -> dict:
        """Add the numbers of both views."""
        first, second = [sample(settings) for settings in self.views]
        results['photometrics'] = {
            name: np.stack([first[name], second[name]]) for name in first
        }
        return results


def sample(settings: dict) -> dict[str, np.ndarray]:
    """Sample one view's numbers from numpy's global generator.

    Returns:
        dict[str, np.ndarray]: ``factors`` and ``order`` of the colour jitter,
        shape (4,); ``grayscale`` and ``solarize``, bool scalars; ``sigma`` of
        the blur in pixels, a scalar, 0 for no blur. With a leading batch
        dimension, :func:`pixcon_mm.models.photometrics.augment` takes them.
    """
    does_jitter, is_gray, is_blurred, is_solarized = np.random.rand(4) < [
        settings[name] for name in ('jitter', 'grayscale', 'blur', 'solarize')
    ]
    reach = np.array(
        [settings[n] for n in ('brightness', 'contrast', 'saturation', 'hue')]
    )
    factors = np.random.uniform(-reach, reach) + (1, 1, 1, 0)
    order = np.random.permutation(4)
    if not does_jitter:
        order = np.full(4, NO_OPERATION)
    return dict(
        factors=factors.astype(np.float32),
        order=order,
        grayscale=is_gray,
        sigma=np.float32(is_blurred * np.random.uniform(*settings['sigma'])),
        solarize=is_solarized,
    )


def complete(settings: dict) -> dict:
    """Add the defaults; raise UserError if a setting is out of range."""
    unknown = set(settings) - set(DEFAULTS)
    if unknown:
        raise UserError(
            f'SamplePhotometrics has unknown settings {sorted(unknown)}; it '
            f'takes {", ".join(DEFAULTS)}.'
        )
    settings = {**DEFAULTS, **settings}
    low, high = settings['sigma']
    if not 0 < low <= high:
        raise UserError(
            'SamplePhotometrics: sigma must be two increasing numbers of '
            f'pixels above 0, not {settings["sigma"]}.'
        )
    for name in set(DEFAULTS) - {'sigma'}:
        highest = HIGHEST.get(name, 1)
        if not 0 <= settings[name] <= highest:
            raise UserError(
                f'SamplePhotometrics: {name}={settings[name]} must lie in '
                f'[0, {highest}].'
            )
    return settings
