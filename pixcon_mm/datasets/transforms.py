"""Transforms of one image into two views whose geometry is known.

Between the crop and the packing, ``img`` is a list of V = 2 views. Their
geometry is ``crop_boxes`` and ``flips``. ``TwoViewDataPreprocessor`` turns the
two into a :class:`~pixcon_mm.models.geometry.Geometry`, from which the head
computes matches and weights. Source: docs/method.md, section 3.1.
"""

import math
from typing import Any, Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from mmcv.transforms import BaseTransform
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from mmpretrain.registry import TRANSFORMS

from pixcon_mm.errors import UserError

# x1, y1, x2, y2 in pixels of the image; x2 and y2 lie outside the box.
Box = tuple[int, int, int, int]
OnNoOverlap = Literal['skip', 'center']


@TRANSFORMS.register_module()
class TwoViewRandomResizedCrop(BaseTransform):
    """Cut two overlapping random crops and resize them.

    Both are ordinary random resized crops. The second must also share at
    least ``min_overlap`` of its own area with the first. Resizing is bilinear,
    antialiased, and equals Pillow's within one grey level, at a quarter of its
    cost.

    Required keys: ``img``. Modified keys: ``img`` (list of two uint8 arrays
    of shape (H, W, 3), stored channel by channel), ``img_shape``. Added
    keys: ``crop_boxes``, float32, (x1, y1, x2, y2) in pixels of the image,
    shape (V, 4).

    Args:
        scale (int | tuple[int, int]): Side, or width and height, of a view.
        area_range (tuple[float, float]): Range of a crop's area, as a share
            of the image's area; sampled uniformly.
        aspect_range (tuple[float, float]): Range of a crop's width / height;
            sampled log-uniformly.
        min_overlap (float): Smallest intersection as a share of the area of
            the second crop before rounding; 0 admits crops without overlap.
        max_tries (int): Tries for each crop.
        on_no_overlap (str): What to do when all tries of the second crop
            fail, which happens for one or two photographs in 10,000, and for
            one in ten with an aspect of 8:3. ``'skip'`` returns None, and the
            dataset takes another image; ``'center'`` uses the central crop
            for both views.
    """

    def __init__(
        self,
        scale: int | tuple[int, int] = 224,
        area_range: tuple[float, float] = (0.08, 1.0),
        aspect_range: tuple[float, float] = (3 / 4, 4 / 3),
        min_overlap: float = 0.01,
        max_tries: int = 10,
        on_no_overlap: OnNoOverlap = 'skip',
    ):
        rules = {
            f'{on_no_overlap=} must be one of {get_args(OnNoOverlap)}': (
                on_no_overlap in get_args(OnNoOverlap)
            ),
            f'{area_range=} must be two increasing shares of the image '
            'within (0, 1]': 0 < area_range[0] <= area_range[1] <= 1,
            f'{aspect_range=} must be two increasing positive ratios': (
                0 < aspect_range[0] <= aspect_range[1]
            ),
            f'{min_overlap=} must be a share of the crop within [0, 1)': (
                0 <= min_overlap < 1
            ),
        }
        for rule, holds in rules.items():
            if not holds:
                raise UserError(f'TwoViewRandomResizedCrop: {rule}.')
        self.scale = (scale, scale) if isinstance(scale, int) else scale
        self.area_range = area_range
        self.aspect_range = aspect_range
        self.min_overlap = min_overlap
        self.max_tries = max_tries
        self.on_no_overlap = on_no_overlap

    def transform(self, results: dict) -> dict | None:
        """Replace the image by two views; None as ``on_no_overlap`` says."""
        image = results['img']
        boxes = self.sample_boxes(*image.shape[1::-1])
        if boxes is None:
            return None
        results['img'] = [
            resize(image[y1:y2, x1:x2], self.scale) for x1, y1, x2, y2 in boxes
        ]
        results['img_shape'] = tuple(self.scale[::-1])
        results['crop_boxes'] = np.array(boxes, dtype=np.float32)
        return results

    def sample_boxes(self, width: int, height: int) -> list[Box] | None:
        """Sample both crops of an image of this size in pixels.

        Returns:
            list[Box] | None: The first and the second crop. None if no try
            of the second one overlaps and ``on_no_overlap`` is 'skip'.
        """
        first = self._sample_box(width, height)
        if first is None:
            first = self._central_box(width, height)
        second = self._sample_box(width, height, partner=first)
        if second is not None:
            return [first, second]
        if self.on_no_overlap == 'skip':
            return None
        return [self._central_box(width, height)] * 2

    def _sample_box(
        self, width: int, height: int, partner: Box | None = None
    ) -> Box | None:
        """Sample one crop that fits, and overlaps its partner if it has one.

        Returns None if all tries fail.
        """
        low, high = map(math.log, self.aspect_range)
        for _ in range(self.max_tries):
            area = width * height * np.random.uniform(*self.area_range)
            aspect = math.exp(np.random.uniform(low, high))
            w = round(math.sqrt(area * aspect))
            h = round(math.sqrt(area / aspect))
            if not (0 < w <= width and 0 < h <= height):
                continue
            x = np.random.randint(width - w + 1)
            y = np.random.randint(height - h + 1)
            box = (x, y, x + w, y + h)
            # The share is of the area before rounding, as in the release.
            if partner is None or (
                _intersection(box, partner) >= self.min_overlap * area
            ):
                return box
        return None

    def _central_box(self, width: int, height: int) -> Box:
        """Find the largest central crop of an allowed aspect."""
        low, high = self.aspect_range
        w = max(1, min(width, round(height * high)))
        h = max(1, min(height, round(width / low)))
        x, y = (width - w) // 2, (height - h) // 2
        return (x, y, x + w, y + h)


def resize(image: np.ndarray, scale: tuple[int, int]) -> np.ndarray:
    """Resize uint8 (H, W, 3) to (width, height), bilinear, antialiased."""
    # A crop is a strided part of its image, and PyTorch's vectorised kernel
    # needs contiguous pixels.
    pixels = torch.from_numpy(np.ascontiguousarray(image))
    view = F.interpolate(
        pixels.permute(2, 0, 1)[None],
        size=scale[::-1],
        mode='bilinear',
        antialias=True,
    )
    return view[0].permute(1, 2, 0).numpy()


def _intersection(a: Box, b: Box) -> int:
    """Return the area that two boxes share, in pixels."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0) * max(height, 0)


@TRANSFORMS.register_module()
class TwoViewRandomFlip(BaseTransform):
    """Mirror each view horizontally, independently of the other.

    ``crop_boxes`` stay as they are, because they lie in the image.

    Required keys: ``img`` (list). Modified keys: ``img``. Added keys:
    ``flips``, bool, shape (V,).

    Args:
        prob (float): Probability for each view.
    """

    def __init__(self, prob: float = 0.5):
        self.prob = prob

    def transform(self, results: dict) -> dict:
        """Mirror some views and record which."""
        flips = np.random.rand(len(results['img'])) < self.prob
        results['img'] = [
            torch.from_numpy(view).flip(1).numpy() if flip else view
            for view, flip in zip(results['img'], flips, strict=True)
        ]
        results['flips'] = flips
        return results


@TRANSFORMS.register_module()
class PerViewTransforms(BaseTransform):
    """Run one photometric pipeline per view, in the loader.

    Slower than ``SamplePhotometrics``, but takes any transform. Unlike
    mmpretrain's ``MultiView``, it keeps the geometry of the views.

    Required keys: ``img`` (list). Modified keys: ``img``.

    Args:
        transforms (list[list[dict]]): One pipeline per view. They must not
            move pixels, because ``crop_boxes`` would no longer fit the views.
    """

    def __init__(self, transforms: list[list[dict]]):
        if len(transforms) != 2:
            raise UserError(
                'PerViewTransforms needs two pipelines, one per view, not '
                f'{len(transforms)}.'
            )
        # mmcv's wrappers build their children from the root registry, which
        # finds mmpretrain's transforms only through the default scope.
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            self.pipelines = [Compose(pipeline) for pipeline in transforms]

    def transform(self, results: dict) -> dict:
        """Transform each view on its own."""
        views = results['img']
        results['img'] = [
            pipeline({**results, 'img': np.ascontiguousarray(view)})['img']
            for pipeline, view in zip(self.pipelines, views, strict=True)
        ]
        for before, after in zip(views, results['img'], strict=True):
            if before.shape != after.shape:
                raise UserError(
                    'PerViewTransforms takes photometric transforms only, '
                    f'but one of them changed a view from {before.shape} to '
                    f'{after.shape}: move it before TwoViewRandomResizedCrop.'
                )
        return results


@TRANSFORMS.register_module()
class PackTwoViewInputs(BaseTransform):
    """Pack views and geometry as tensors for ``default_collate``.

    ``data_samples`` is a plain dict, not ``DataSample`` objects: they cannot
    be stacked, and each of them costs a worker a shared-memory handle.

    Required keys: ``img`` (list), ``crop_boxes``. Optional keys: ``flips``,
    ``photometrics``, ``img_path``.

    The loader's ``default_collate`` (MMEngine's) stacks B of these samples:
    ``inputs`` become a list of V batches (B, 3, H, W), ``crop_boxes`` become
    (B, V, 4), ``flips`` (B, V), and ``img_path`` a list of B paths. This is
    what ``TwoViewDataPreprocessor`` takes.
    """

    def transform(self, results: dict) -> dict:
        """Pack one sample; all other keys are dropped.

        Returns:
            dict: ``inputs``, a list of V uint8 tensors of shape (3, H, W),
            and ``data_samples``, a dict: ``crop_boxes`` (V, 4), ``flips``
            (V,) and, if the pipeline made them, ``photometrics``, a dict of
            (V, ...), and ``img_path``.
        """
        views = results['img']
        flips = results.get('flips', np.zeros(len(views), dtype=bool))
        samples: dict[str, Any] = dict(
            crop_boxes=torch.from_numpy(results['crop_boxes']),
            flips=torch.from_numpy(flips),
        )
        if 'photometrics' in results:
            samples['photometrics'] = {
                name: torch.from_numpy(values)
                for name, values in results['photometrics'].items()
            }
        if 'img_path' in results:
            samples['img_path'] = results['img_path']
        inputs = [
            torch.from_numpy(np.ascontiguousarray(view.transpose(2, 0, 1)))
            for view in views
        ]
        return dict(inputs=inputs, data_samples=samples)
