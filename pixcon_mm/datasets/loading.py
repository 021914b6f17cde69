"""Decoding that never hands on half an image."""

import io
from pathlib import Path

import cv2
import mmcv
import numpy as np
from mmcv.transforms import BaseTransform
from mmpretrain.registry import TRANSFORMS
from PIL import Image

try:
    import simplejpeg
except ImportError:
    simplejpeg = None

JPEG = b'\xff\xd8'
# How a complete file of a format starts and ends.
ENDINGS = {JPEG: b'\xff\xd9', b'\x89PNG': b'IEND\xaeB`\x82'}


class BrokenImageError(ValueError):
    """A file that is not a readable, complete image."""


@TRANSFORMS.register_module()
class LoadSceneImage(BaseTransform):
    """Load any 8- or 16-bit image as BGR, or say that it is broken.

    simplejpeg decodes JPEG files where it is installed, and OpenCV what is
    left; they are the faster ones, but depending on its version OpenCV
    returns the upper half of a truncated file without a word. So files
    that do not end as their format says, or that both refuse, get a second
    opinion from Pillow, which raises. All three give the same pixels. Grey,
    palette, transparent and CMYK images become three channels; the EXIF
    orientation is ignored, as in the released PixCon.

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
    if not is_cut:
        for decode in (_decode_jpeg, _decode_with_opencv):
            image = decode(content)
            if image is not None:
                return image
    return _decode_with_pillow(content)


def _decode_jpeg(content: bytes) -> np.ndarray | None:
    if simplejpeg is None or not content.startswith(JPEG):
        return None
    try:
        return simplejpeg.decode_jpeg(content, 'BGR')
    except ValueError:
        return None  # CMYK, or something that others may make sense of


def _decode_with_opencv(content: bytes) -> np.ndarray | None:
    try:
        return mmcv.imfrombytes(
            content, flag='color_ignore_orientation', backend='cv2'
        )
    except cv2.error:
        return None


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
