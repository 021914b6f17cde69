"""From one image to two views whose geometry is known.

Between the crop and the packing, ``img`` is a list of V = 2 views.
"""

import math
import warnings

import numpy as np
import torch
import torch.nn.functional as F
from mmcv.transforms import BaseTransform
from mmengine.dataset import Compose
from mmengine.registry import DefaultScope
from mmpretrain.registry import TRANSFORMS

from pixcon_mm.errors import UserError

Box = tuple[int, int, int, int]

# mmcv says so in every worker whenever ColorJitter uses Pillow as it should.
warnings.filterwarnings('ignore', "Only use 'alpha' for pillow backend")


@TRANSFORMS.register_module()
class TwoViewRandomResizedCrop(BaseTransform):
    """Cut two overlapping random crops and resize them.

    Each is an ordinary random resized crop. The second is drawn again, with
    the same number of tries, until it also shares ``min_overlap`` of its own
    area with the first. Resizing is antialiased and equals Pillow's within
    one grey level, at a quarter of its cost.

    Required keys: ``img``. Modified keys: ``img`` (list of two uint8 arrays
    of shape (H, W, 3), channel by channel in memory), ``img_shape``. Added
    keys: ``crop_boxes``, float32, (x1, y1, x2, y2) in pixels of the image,
    shape (V, 4).

    Args:
        scale (int | tuple[int, int]): Size of the views, or their width and
            height. Defaults to 224.
        area_range (tuple[float, float]): Area of a crop as a share of the
            image's. Defaults to (0.08, 1.0).
        aspect_range (tuple[float, float]): Width / height of a crop, drawn
            log-uniformly. Defaults to (3/4, 4/3).
        min_overlap (float): Least intersection as a share of the area drawn
            for the second crop; 0 admits crops without overlap. Defaults to
            0.01.
        max_tries (int): Draws for each crop. Defaults to 10.
        interpolation (str): ``'bilinear'`` or ``'bicubic'``. Defaults to
            ``'bilinear'``.
        on_no_overlap (str): What to do when no draw of the second crop will
            do. ``'skip'`` returns None, upon which the dataset takes another
            image; ``'center'`` makes both views the central crop. That
            happens to one in 10,000 photographs, but to one in ten of aspect
            8:3. Defaults to ``'skip'``.
    """

    def __init__(
        self,
        scale: int | tuple[int, int] = 224,
        area_range: tuple[float, float] = (0.08, 1.0),
        aspect_range: tuple[float, float] = (3 / 4, 4 / 3),
        min_overlap: float = 0.01,
        max_tries: int = 10,
        interpolation: str = 'bilinear',
        on_no_overlap: str = 'skip',
    ):
        if on_no_overlap not in ('skip', 'center'):
            raise UserError(
                "TwoViewRandomResizedCrop: on_no_overlap must be 'skip' or "
                f"'center', not {on_no_overlap!r}."
            )
        if not 0 < area_range[0] <= area_range[1] <= 1:
            raise UserError(
                'TwoViewRandomResizedCrop: area_range must be two increasing '
                f'shares of the image within (0, 1], not {area_range}.'
            )
        if not 0 < aspect_range[0] <= aspect_range[1]:
            raise UserError(
                'TwoViewRandomResizedCrop: aspect_range must be two '
                f'increasing positive ratios, not {aspect_range}.'
            )
        if not 0 <= min_overlap < 1:
            raise UserError(
                'TwoViewRandomResizedCrop: min_overlap must be a share of '
                f'the crop within [0, 1), not {min_overlap}.'
            )
        if interpolation not in ('bilinear', 'bicubic'):
            raise UserError(
                "TwoViewRandomResizedCrop: interpolation must be 'bilinear' "
                f"or 'bicubic', not {interpolation!r}."
            )
        self.scale = (scale, scale) if isinstance(scale, int) else tuple(scale)
        self.area_range = area_range
        self.aspect_range = aspect_range
        self.min_overlap = min_overlap
        self.max_tries = max_tries
        self.interpolation = interpolation
        self.on_no_overlap = on_no_overlap

    def transform(self, results: dict) -> dict | None:
        """Replace the image by two views, or return None."""
        image = results['img']
        boxes = self.draw_boxes(*image.shape[1::-1])
        if boxes is None:
            return None
        results['img'] = [
            resize(image[y1:y2, x1:x2], self.scale, self.interpolation)
            for x1, y1, x2, y2 in boxes
        ]
        results['img_shape'] = self.scale[::-1]
        results['crop_boxes'] = np.array(boxes, dtype=np.float32)
        return results

    def draw_boxes(self, width: int, height: int) -> list[Box] | None:
        """Draw both crops, or None if they will not overlap."""
        first = self._draw_box(width, height)
        if first is None:
            first = self._central_box(width, height)
        second = self._draw_box(width, height, partner=first)
        if second is not None:
            return [first, second]
        if self.on_no_overlap == 'skip':
            return None
        return [self._central_box(width, height)] * 2

    def _draw_box(
        self, width: int, height: int, partner: Box | None = None
    ) -> Box | None:
        log_aspects = [math.log(aspect) for aspect in self.aspect_range]
        for _ in range(self.max_tries):
            area = width * height * np.random.uniform(*self.area_range)
            aspect = math.exp(np.random.uniform(*log_aspects))
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


def resize(
    image: np.ndarray, scale: tuple[int, int], interpolation: str
) -> np.ndarray:
    """Resize with antialiasing, as Pillow does within one grey level.

    Args:
        image (np.ndarray): uint8. Shape (H, W, 3).
        scale (tuple[int, int]): Width and height wanted.
        interpolation (str): 'bilinear' or 'bicubic'.

    Returns:
        np.ndarray: uint8, channel by channel in memory.
    """
    # PyTorch's vectorised kernel wants the pixels of an image in a row.
    pixels = torch.from_numpy(np.ascontiguousarray(image))
    view = F.interpolate(
        pixels.permute(2, 0, 1)[None],
        size=scale[::-1],
        mode=interpolation,
        antialias=True,
    )
    return view[0].permute(1, 2, 0).numpy()


def _intersection(a: Box, b: Box) -> int:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(width, 0) * max(height, 0)


@TRANSFORMS.register_module()
class TwoViewRandomFlip(BaseTransform):
    """Mirror each view horizontally, independently of the other.

    Required keys: ``img`` (list). Modified keys: ``img``. Added keys:
    ``flips``, bool, shape (V,).

    Args:
        prob (float): Probability for each view. Defaults to 0.5.
    """

    def __init__(self, prob: float = 0.5):
        self.prob = prob

    def transform(self, results: dict) -> dict:
        """Flip the views and note which."""
        flips = np.random.rand(len(results['img'])) < self.prob
        results['img'] = [
            torch.from_numpy(view).flip(1).numpy() if flip else view
            for view, flip in zip(results['img'], flips, strict=True)
        ]
        results['flips'] = flips
        return results


@TRANSFORMS.register_module()
class PerViewTransforms(BaseTransform):
    """Run one photometric pipeline for each view, in the loader.

    The slower way to augment, and the one that takes any transform;
    ``SamplePhotometrics`` leaves the work to the model's device.

    mmpretrain's ``MultiView`` draws its views itself and drops every key but
    the image; here the views and their geometry exist already and stay.

    Required keys: ``img`` (list). Modified keys: ``img``.

    Args:
        transforms (list[list[dict]]): One pipeline a view. They may not move
            pixels: the boxes would no longer be true.
    """

    def __init__(self, transforms: list[list[dict]]):
        if len(transforms) != 2:
            raise UserError(
                'PerViewTransforms needs two pipelines, one a view, not '
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

    def __repr__(self) -> str:
        """Show the nested pipelines."""
        return f'{type(self).__name__}({self.pipelines})'


@TRANSFORMS.register_module()
class PackTwoViewInputs(BaseTransform):
    """Pack views and geometry as tensors for ``default_collate``.

    Geometry travels as plain tensors, not in ``DataSample`` objects: those
    cannot be stacked, and every one costs a worker a shared-memory handle.

    Required keys: ``img`` (list), ``crop_boxes``. Optional keys: ``flips``,
    ``photometrics``, ``img_path``.
    """

    def transform(self, results: dict) -> dict:
        """Return ``inputs`` and ``data_samples`` only.

        Returns:
            dict: ``inputs``, V uint8 tensors of shape (3, H, W), and
            ``data_samples`` with ``crop_boxes`` (V, 4), ``flips`` (V, ) and,
            where known, ``photometrics``, a dict, and ``img_path``, which
            error messages name.
        """
        views = results['img']
        samples = dict(
            crop_boxes=torch.from_numpy(results['crop_boxes']),
            flips=torch.from_numpy(
                results.get('flips', np.zeros(len(views), dtype=bool))
            ),
        )
        if 'photometrics' in results:
            samples['photometrics'] = {
                name: torch.from_numpy(drawn)
                for name, drawn in results['photometrics'].items()
            }
        if 'img_path' in results:
            samples['img_path'] = results['img_path']
        return dict(
            inputs=[
                torch.from_numpy(np.ascontiguousarray(view.transpose(2, 0, 1)))
                for view in views
            ],
            data_samples=samples,
        )
