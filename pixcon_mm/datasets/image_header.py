"""Images opened with Pillow, for their header alone."""

from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
from PIL import Image

from pixcon_mm.errors import UserError
from pixcon_mm.files import as_line

ORIENTATION = 0x0112  # of EXIF; 1 is upright, from 5 on it lies on its side


@contextmanager
def any_size() -> Iterator[None]:
    """Lift Pillow's limit on pixels, a protection against huge images."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


@contextmanager
def opened(path: str) -> Iterator[Image.Image]:
    """Open an image with Pillow.

    Raises:
        OSError: If the file is missing, not an image, or damaged, for which
            Pillow raises several other errors.
    """
    try:
        with Image.open(path) as picture:
            yield picture
    except (OSError, MemoryError):
        raise
    except Exception as error:
        raise OSError(f'{type(error).__name__}: {error}') from error


def read_size(path: str) -> tuple[int, int]:
    """Return width and height of an image as OpenCV would decode it.

    A photograph may be stored on its side, with a mark in its EXIF data that
    makes OpenCV turn it. Of a JPEG, only the header is read. Pillow decodes
    PNG to find the mark. Other formats that have one are decoded by OpenCV,
    which turns some of them; Pillow has already turned TIFF.

    Raises:
        OSError: If the file is missing or not an image.
    """
    with opened(path) as picture:
        size, is_jpeg = picture.size, picture.format in ('JPEG', 'MPO')
        is_on_side = picture.getexif().get(ORIENTATION, 1) >= 5
    if not is_on_side:
        return size
    if is_jpeg:
        return size[::-1]
    try:
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise OSError(str(error)) from error
    if image is None:
        raise OSError('OpenCV cannot decode it')
    return image.shape[1::-1]


def image_size(path: str) -> tuple[int, int]:
    """Return what :func:`read_size` returns.

    Raises:
        UserError: If the file is missing or not an image.
    """
    try:
        return read_size(path)
    except OSError as error:
        raise UserError(
            f'{as_line(path)} cannot be read as an image ({error}): replace '
            'it, or remove it from the data set.'
        ) from error
