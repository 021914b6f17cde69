"""Damage that shows in how a file is built, whatever a decoder makes of it."""

import struct
import zlib

PNG = b'\x89PNG\r\n\x1a\n'


def check_png(content: bytes) -> None:
    """Verify the checksums of all chunks that make the picture.

    Some versions of OpenCV and Pillow return the upper half of a file
    without a word. What comes after the last chunk is of no concern.

    Args:
        content (bytes): The whole file.

    Raises:
        ValueError: If a chunk is damaged or missing.
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
            raise ValueError(f'chunk {kind} of the PNG file is damaged')
        if start == len(PNG) and (kind, length) != (b'IHDR', 13):
            raise ValueError('the PNG file has no header')
        if kind == b'IEND':
            return
        start = end


def check_webp(content: bytes) -> None:
    """Refuse a WebP file whose picture ends in a block of zeros.

    It has no checksum, and its decoders make a picture of any bytes.

    Args:
        content (bytes): The whole file.

    Raises:
        ValueError: If the last 512 bytes of the picture are zeros, as in a
            copy that broke after the size was set.
    """
    start = 12
    while start + 8 <= len(content):
        kind, length = struct.unpack('<4sI', content[start : start + 8])
        end = start + 8 + length
        if kind in (b'VP8 ', b'VP8L') and content[start:end].endswith(
            bytes(512)
        ):
            raise ValueError('the end of the WebP picture is empty')
        start = end + length % 2
