"""Decoding that never hands on half an image."""

import io
from pathlib import Path

import cv2
import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmpretrain.registry import TRANSFORMS
from PIL import Image

# How a complete file of a format starts and ends.
ENDINGS = {b'\xff\xd8': b'\xff\xd9', b'\x89PNG': b'IEND\xaeB`\x82'}


class BrokenImageError(ValueError):
    """A file that is not a readable, complete image."""


@TRANSFORMS.register_module()
class LoadSceneImage(BaseTransform):
    """Load any 8- or 16-bit image as BGR, or say that it is broken.

    OpenCV decodes; it is the faster one, but depending on its version it
    returns the upper half of a truncated file without a word. So files
    that do not end as their format says, or that OpenCV refuses, get a
    second opinion from Pillow, which raises. Grey, palette, transparent and
    CMYK images become three channels; the EXIF orientation is ignored, as
    in the released PixCon.

    Required keys: ``img_path``. Added keys: ``img`` (uint8, (H, W, 3), BGR),
    ``img_shape``, ``ori_shape``.

    Raises:
        BrokenImageError: If the file cannot be read or decoded. It is the
            only error that makes ``SceneImageDataset`` skip an image.
    """

    def transform(self, results: dict) -> dict:
        """Read and decode ``results['img_path']``."""
        path = results['img_path']
        try:
            content = Path(path).read_bytes()
            image = decode_whole(content)
        # Pillow's decoders raise these, SyntaxError included.
        except (
            OSError,
            ValueError,
            SyntaxError,
            EOFError,
            Image.DecompressionBombError,
        ) as error:
            raise BrokenImageError(f'{path}: {error}') from error
        results['img'] = image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results


def decode_whole(content: bytes) -> np.ndarray:
    """Decode an encoded image, raising where a decoder would guess.

    Args:
        content (bytes): The whole file.

    Returns:
        np.ndarray: uint8, BGR. Shape (H, W, 3).
    """
    if not content:
        raise ValueError('the file is empty')
    tail = content[-64:].rstrip(b'\0')
    is_cut = any(
        content.startswith(start) and not tail.endswith(end)
        for start, end in ENDINGS.items()
    )
    image = None
    if not is_cut:
        try:
            image = mmcv.imfrombytes(
                content, flag='color_ignore_orientation', backend='cv2'
            )
        except cv2.error:
            image = None
    return _decode_with_pillow(content) if image is None else image


def _decode_with_pillow(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        if image.mode.startswith('I;16'):
            grey = (np.asarray(image) >> 8).astype(np.uint8)
            return np.repeat(grey[..., None], 3, axis=2)
        # Pillow would clip their unknown range to 0..255.
        if image.mode in ('I', 'F'):
            raise ValueError('32-bit images have no defined range')
        rgb = np.asarray(image.convert('RGB'))
    return np.ascontiguousarray(rgb[..., ::-1])
