"""Decoders that refuse an image rather than guess a part of it."""

import io
import re
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import cv2
import mmcv
import numpy as np
import simplejpeg
from PIL import Image, UnidentifiedImageError

from pixcon_mm.datasets.image_header import ORIENTATION, any_size
from pixcon_mm.datasets.storage import warn

MAX_PIXELS = 200_000_000

PNG = b'\x89PNG\r\n\x1a\n'
JPEG, JPEG_END = b'\xff\xd8', b'\xff\xd9'
# Beginnings of libjpeg's warnings about damaged data.
JPEG_TROUBLE = ('Corrupt JPEG data', 'Premature end', 'Inconsistent')
# Cameras and scanners leave some bytes between the data and a marker.
MAX_EXTRANEOUS = 16
# OpenCV is faster than Pillow for these and as strict; for AVIF, stricter.
OPENCV_FORMATS = ('BMP', 'WEBP', 'AVIF')


def decode_whole(content: bytes, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decode an encoded image, raising where a decoder would guess.

    The decoders are simplejpeg for JPEG, whose warnings count as errors;
    OpenCV for PNG, after all checksums are verified, and for BMP, WebP and
    AVIF; Pillow for all other formats. They give the same pixels. Grey,
    palette, transparent and CMYK images become three channels; the EXIF
    orientation is ignored, except that of TIFF, which Pillow applies.

    Args:
        content (bytes): The whole file.
        max_pixels (int): Upper limit of width times height in the header.

    Returns:
        np.ndarray: uint8, BGR. Shape (H, W, 3).

    Raises:
        ValueError: If the image is damaged, unknown or too large.
    """
    if not content:
        raise ValueError('the file is empty')
    if content.startswith(PNG):
        return _decode_png(content, max_pixels)
    if content.startswith(JPEG):
        image = _decode_jpeg(content, max_pixels)
        if image is not None:
            return image
    return _decode_other(content, max_pixels)


def turn_upright(content: bytes, image: np.ndarray) -> np.ndarray:
    """Turn an image as its EXIF data say, as OpenMMLab's data sets do.

    Args:
        content (bytes): The whole file.
        image (np.ndarray): What :func:`decode_whole` returns for it.

    Returns:
        np.ndarray: uint8, BGR. Shape (H, W, 3); if the photograph is stored
        on its side, height and width are swapped.
    """
    try:
        with _pillow(), Image.open(io.BytesIO(content)) as picture:
            is_upright = picture.getexif().get(ORIENTATION, 1) == 1
    except ValueError:  # OpenCV reads formats that Pillow does not know
        return image
    if is_upright:
        return image
    for end in (b'', JPEG_END):  # OpenCV needs it, and decode_whole does not
        data = np.frombuffer(content + end, np.uint8)
        turned = cv2.imdecode(data, cv2.IMREAD_COLOR)
        if turned is not None:
            return turned
    return image


def _decode_jpeg(content: bytes, max_pixels: int) -> np.ndarray | None:
    """Decode, or return None if another decoder should try."""
    try:
        height, width = simplejpeg.decode_jpeg_header(content)[:2]
    except ValueError:
        return None
    _check_size(width, height, max_pixels)
    try:
        return simplejpeg.decode_jpeg(content, 'BGR', strict=True)
    except ValueError as error:
        trouble = str(error)
    has_end = content.endswith((JPEG_END, bytes(16)))
    if 'Premature end of JPEG' in trouble and not has_end:
        # Only the end marker may be missing. With it, libjpeg still warns if
        # data are missing as well.
        return _decode_jpeg(content + JPEG_END, max_pixels)
    extraneous = re.search(r'(\d+) extraneous bytes', trouble)
    if extraneous and int(extraneous[1]) <= MAX_EXTRANEOUS:
        return None
    if trouble.startswith(JPEG_TROUBLE):
        raise ValueError(trouble)
    return None


def _decode_png(content: bytes, max_pixels: int) -> np.ndarray:
    check_png(content)
    width, height, depth = struct.unpack('>IIB', content[16:25])
    _check_size(width, height, max_pixels)
    image = _decode_with_opencv(content)
    if image is None:
        raise ValueError('the data of the PNG file cannot be decoded')
    if depth == 16:
        _warn_of_12_bits(image.max(), 16)
    return image


def check_png(content: bytes) -> None:
    """Verify the checksums of all chunks that make the picture of a PNG file.

    Some versions of OpenCV and Pillow silently return the upper half of a
    damaged file. Bytes after the last chunk do not matter.

    Raises:
        ValueError: If the file is damaged.
    """
    view = memoryview(content)
    start = len(PNG)
    while True:
        length = int.from_bytes(view[start : start + 4], 'big')
        end = start + 12 + length
        kind = bytes(view[start + 4 : start + 8])
        if end > len(content):
            raise ValueError('the PNG file is truncated')
        is_critical = not kind[0] & 0x20
        checksum = int.from_bytes(view[end - 4 : end], 'big')
        if is_critical and zlib.crc32(view[start + 4 : end - 4]) != checksum:
            raise ValueError(
                f'chunk {kind.decode("ascii", "replace")} of the PNG file is '
                'damaged'
            )
        if start == len(PNG) and (kind, length) != (b'IHDR', 13):
            raise ValueError('the PNG file has no header')
        if kind == b'IEND':
            return
        start = end


def _check_webp(content: bytes) -> None:
    """Refuse a picture that ends in zeros, as an interrupted copy does.

    WebP has no checksum, and its decoders make a picture of any bytes.
    """
    start = 12
    while start + 8 <= len(content):
        kind, length = struct.unpack('<4sI', content[start : start + 8])
        end = start + 8 + length
        is_picture = kind in (b'VP8 ', b'VP8L')
        if is_picture and content[start:end].endswith(bytes(512)):
            raise ValueError('the end of the WebP picture is empty')
        start = end + length % 2


def _decode_other(content: bytes, max_pixels: int) -> np.ndarray:
    with _pillow():
        try:
            picture = Image.open(io.BytesIO(content))
        except UnidentifiedImageError as error:
            image = _decode_with_opencv(content)
            if image is None:
                raise ValueError('it is not a known kind of image') from error
            return image
    with picture:
        if picture.format == 'EPS':
            raise ValueError('it is a program in PostScript')
        _check_size(*picture.size, max_pixels)
        kind = picture.format
        if kind == 'WEBP':
            _check_webp(content)
        if kind in OPENCV_FORMATS:
            image = _decode_with_opencv(content)
            if image is not None:
                return image
            if kind == 'AVIF':
                raise ValueError('the data of the AVIF cannot be decoded')
        with _pillow():
            picture.load()
        return _to_bgr(picture)


@contextmanager
def _pillow() -> Iterator[None]:
    """Turn Pillow's errors into ValueError, and lift its limit on pixels."""
    try:
        with any_size():
            yield
    except (MemoryError, ValueError):
        raise
    # Its decoders raise many kinds of errors for damaged data.
    except Exception as error:
        raise ValueError(str(error) or repr(error)) from error


def _decode_with_opencv(content: bytes) -> np.ndarray | None:
    try:
        return mmcv.imfrombytes(
            content, flag='color_ignore_orientation', backend='cv2'
        )
    except cv2.error:
        return None


def _to_bgr(picture: Image.Image) -> np.ndarray:
    mode = picture.mode
    # Pillow scales the values of PPM files, and only those, to 16 bits.
    if mode.startswith('I;16') or (mode == 'I' and picture.format == 'PPM'):
        grey = np.asarray(picture)
        _warn_of_12_bits(grey.max(), 4096)
        grey = (grey >> 8).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)
    # Pillow would clip their unknown range to 0..255.
    if mode in ('I', 'F'):
        raise ValueError('32-bit images have no defined range')
    bits = getattr(picture, 'tag_v2', {}).get(258, (8,))  # of TIFF
    rgb = np.asarray(picture.convert('RGB'))
    if max(bits) == 16:
        _warn_of_12_bits(rgb.max(), 16)
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ValueError(
            f'{width} x {height} is {width * height / 1e6:.0f} megapixels, '
            f'more than {max_pixels / 1e6:.0f}'
        )


_warn_once = cache(warn)


def _warn_of_12_bits(highest: int, limit: int) -> None:
    """Warn if the highest value of a 16-bit image is below a limit."""
    if 0 < highest < limit:
        _warn_once(
            'There are 16-bit images whose values stay below 4096, as 12-bit '
            'sensors write them. They are read as almost black: multiply '
            'their values by 16 and save them again.'
        )
