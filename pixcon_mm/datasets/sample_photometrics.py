"""Random numbers of the photometric augmentation, one set a view."""

import numpy as np
from mmcv.transforms import BaseTransform
from mmpretrain.registry import TRANSFORMS

from pixcon_mm.errors import UserError
from pixcon_mm.models.photometrics import NO_OPERATION

# BYOL's first view; the second has little blur, and solarisation.
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
# The rest are probabilities and factors, up to 1.
HIGHEST = dict(hue=0.5)


@TRANSFORMS.register_module()
class SamplePhotometrics(BaseTransform):
    """Sample the photometric augmentation of each view, without applying it.

    The numbers travel with the views, and ``TwoViewDataPreprocessor``
    applies them to the whole batch on the model's device: about three
    quarters of the work of a CPU pipeline. The distribution is that of
    ``PerViewTransforms`` with RandomApply(ColorJitter), RandomGrayscale,
    GaussianBlur and Solarize (docs/method.md, section 3.2).

    Added key: ``photometrics``, a dict of arrays whose first dimension is
    V: see :func:`pixcon_mm.models.photometrics.augment`.

    Args:
        views (list[dict]): Settings of each view over ``DEFAULTS``.
            Probabilities ``jitter``, ``grayscale``, ``blur``, ``solarize``;
            ``brightness``, ``contrast`` and ``saturation`` x for factors
            within 1 - x and 1 + x, ``hue`` x for turns within -x and x;
            ``sigma`` (low, high) of the blur in pixels.
    """

    def __init__(self, views: list[dict]):
        if len(views) != 2:
            raise UserError(
                'SamplePhotometrics needs two sets of settings, one a view, '
                f'not {len(views)}.'
            )
        self.views = [complete(view) for view in views]

    def transform(self, results: dict) -> dict:
        """Add the numbers of both views."""
        numbers = [sample(view) for view in self.views]
        results['photometrics'] = {
            name: np.stack([view[name] for view in numbers])
            for name in numbers[0]
        }
        return results

    def __repr__(self) -> str:
        """Show the settings."""
        return f'{type(self).__name__}(views={self.views})'


def sample(view: dict) -> dict[str, np.ndarray]:
    """Sample one view's numbers from numpy's global generator."""
    does_jitter, is_gray, is_blurred, is_solarized = np.random.rand(4) < [
        view[name] for name in ('jitter', 'grayscale', 'blur', 'solarize')
    ]
    reach = np.array(
        [view[n] for n in ('brightness', 'contrast', 'saturation', 'hue')]
    )
    factors = np.random.uniform(-reach, reach) + (1, 1, 1, 0)
    order = np.random.permutation(4)
    if not does_jitter:
        order = np.full(4, NO_OPERATION)
    return dict(
        factors=factors.astype(np.float32),
        order=order,
        grayscale=is_gray,
        sigma=np.float32(is_blurred * np.random.uniform(*view['sigma'])),
        solarize=is_solarized,
    )


def complete(view: dict) -> dict:
    """Add the defaults; raise UserError if a setting is out of range."""
    unknown = set(view) - set(DEFAULTS)
    if unknown:
        raise UserError(
            f'SamplePhotometrics has unknown settings {sorted(unknown)}; it '
            f'takes {", ".join(DEFAULTS)}.'
        )
    view = {**DEFAULTS, **view}
    low, high = view['sigma']
    if not 0 < low <= high:
        raise UserError(
            'SamplePhotometrics: sigma must be two increasing numbers of '
            f'pixels above 0, not {view["sigma"]}.'
        )
    for name in set(DEFAULTS) - {'sigma'}:
        highest = HIGHEST.get(name, 1)
        if not 0 <= view[name] <= highest:
            raise UserError(
                f'SamplePhotometrics: {name}={view[name]} must lie in '
                f'[0, {highest}].'
            )
    return view
