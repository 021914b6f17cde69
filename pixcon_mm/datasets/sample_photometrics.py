"""What is to be done to a view's colours: drawn here, done on the device."""

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
PROBABILITIES = ('jitter', 'grayscale', 'blur', 'solarize')


@TRANSFORMS.register_module()
class SamplePhotometrics(BaseTransform):
    """Draw the photometric augmentation of each view, and only draw it.

    The numbers travel with the views, and ``TwoViewDataPreprocessor``
    applies them to the whole batch on the model's device: about three
    quarters of the work of a CPU pipeline. The distribution is that of
    ``PerViewTransforms`` with RandomApply(ColorJitter), RandomGrayscale,
    GaussianBlur and Solarize.

    Added key: ``photometrics``, a dict of arrays whose first dimension is
    V: see :func:`pixcon_mm.models.photometrics.augment`.

    Args:
        views (list[dict]): One for each view. Probabilities ``jitter``,
            ``grayscale``, ``blur`` and ``solarize``; ranges of the jitter:
            factors of ``brightness``, ``contrast`` and ``saturation``
            within 1 - x and 1 + x, ``hue`` within -x and x turns; ``sigma``
            (low, high) of the blur in pixels. What is left out is as in
            BYOL's first view.
    """

    def __init__(self, views: list[dict]):
        if len(views) != 2:
            raise UserError(
                'SamplePhotometrics needs two sets of settings, one a view, '
                f'not {len(views)}.'
            )
        for view in views:
            check(view)
        self.views = [{**DEFAULTS, **view} for view in views]

    def transform(self, results: dict) -> dict:
        """Add the numbers of both views."""
        drawn = [draw(**view) for view in self.views]
        results['photometrics'] = {
            name: np.stack([view[name] for view in drawn]) for name in drawn[0]
        }
        return results

    def __repr__(self) -> str:
        """Show the settings."""
        return f'{type(self).__name__}(views={self.views})'


def draw(
    jitter: float,
    brightness: float,
    contrast: float,
    saturation: float,
    hue: float,
    grayscale: float,
    blur: float,
    sigma: tuple[float, float],
    solarize: float,
) -> dict[str, np.ndarray]:
    """Draw one view's numbers from numpy's global generator."""
    does_jitter, is_gray, is_blurred, is_solarized = np.random.rand(4) < (
        jitter,
        grayscale,
        blur,
        solarize,
    )
    reach = np.array([brightness, contrast, saturation, hue])
    factors = np.random.uniform(-reach, reach) + (1, 1, 1, 0)
    order = np.random.permutation(4)
    if not does_jitter:
        order = np.full(4, NO_OPERATION)
    return dict(
        factors=factors.astype(np.float32),
        order=order,
        grayscale=is_gray,
        sigma=np.float32(is_blurred * np.random.uniform(*sigma)),
        solarize=is_solarized,
    )


def check(view: dict) -> None:
    """Raise UserError if settings are unknown or out of range."""
    unknown = set(view) - set(DEFAULTS)
    if unknown:
        raise UserError(
            f'SamplePhotometrics has unknown settings {sorted(unknown)}; it '
            f'takes {", ".join(DEFAULTS)}.'
        )
    view = {**DEFAULTS, **view}
    for name in PROBABILITIES:
        if not 0 <= view[name] <= 1:
            raise UserError(
                f'SamplePhotometrics: {name}={view[name]} is a probability '
                'and must lie in [0, 1].'
            )
    for name, most in dict(
        brightness=1, contrast=1, saturation=1, hue=0.5
    ).items():
        if not 0 <= view[name] <= most:
            raise UserError(
                f'SamplePhotometrics: {name}={view[name]} must lie in '
                f'[0, {most}].'
            )
    if not 0 < view['sigma'][0] <= view['sigma'][1]:
        raise UserError(
            'SamplePhotometrics: sigma must be two increasing numbers of '
            f'pixels above 0, not {view["sigma"]}.'
        )
