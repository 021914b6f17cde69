"""Small test images of every kind, sound and broken."""

import io

import numpy as np
from PIL import Image


def picture(seed=0, width=64, height=48):
    """A smooth random RGB image, so that JPEG changes it little."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.BICUBIC)


def encode(image, kind='PNG', **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def write_pictures(folder, count, **options):
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(count):
        picture(i, **options).save(folder / f'{i:03d}.png')
    return folder


def broken_files():
    """Bytes of files that are not complete images, by name."""
    big = picture(1, 256, 192)
    jpeg = encode(big, 'JPEG', quality=95)
    progressive = encode(big, 'JPEG', quality=95, progressive=True)
    png = encode(big, 'PNG')
    return {
        'empty.jpg': b'',
        'page.jpg': b'<!DOCTYPE html><html>404 not found</html>' * 9,
        'cut_half.jpg': jpeg[: len(jpeg) // 2],
        'cut_little.jpg': jpeg[: len(jpeg) * 9 // 10],
        'cut_progressive.jpg': progressive[: len(progressive) // 2],
        'cut.png': png[: len(png) // 2],
        'cut_little.png': png[: len(png) * 9 // 10],
        'header_only.png': png[:20],
        'cut.bmp': encode(big, 'BMP')[:5000],
        'cut.tif': encode(big, 'TIFF')[:5000],
        'cut.webp': encode(big, 'WEBP')[:600],
        'text.ppm': b'P6 not really',
    }
