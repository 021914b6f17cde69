"""Kinds of damage that files suffer, and a table of those that are found.

    python -m tests.test_datasets.damage FOLDER [--images 100]

prints, for photographs of a folder encoded in each format, how many of 100
damaged files are refused.
"""

import argparse

import numpy as np
from PIL import Image

from pixcon_mm.datasets.decoding import decode_whole
from pixcon_mm.datasets.listing import list_images, readable_suffixes
from tests.test_datasets.pictures import encode

BLOCK = 4096

FORMATS = {
    'JPEG': ('JPEG', dict(quality=90)),
    'JPEG, progressive': ('JPEG', dict(quality=90, progressive=True)),
    'PNG': ('PNG', {}),
    'WebP': ('WEBP', dict(quality=90)),
    'WebP, lossless': ('WEBP', dict(lossless=True, method=0)),
    'AVIF': ('AVIF', dict(quality=80, speed=10)),
    'GIF': ('GIF', {}),
    'JPEG 2000': ('JPEG2000', {}),
    'TIFF, LZW': ('TIFF', dict(compression='tiff_lzw')),
    'TIFF, Deflate': ('TIFF', dict(compression='tiff_adobe_deflate')),
    'TIFF, JPEG': ('TIFF', dict(compression='jpeg')),
    'TIFF, uncompressed': ('TIFF', {}),
    'BMP': ('BMP', {}),
    'PPM': ('PPM', {}),
}
if '.avif' not in readable_suffixes():  # as with OpenCV 4.11
    del FORMATS['AVIF']


def cut(content, rng):
    """An interrupted download."""
    return content[: len(content) // 2]


def cut_and_ended(content, rng):
    """The same, repaired by a tool that looks for the end marker only."""
    end = content[-2:] if content[:2] == b'\xff\xd8' else content[-12:]
    return content[: len(content) // 2] + end


def zero_tail(content, rng):
    """A copy that broke after the size was set."""
    half = len(content) // 2
    return content[:half] + bytes(len(content) - half)


def zero_block(content, rng):
    """A block of a disk that was never written."""
    return _replace(content, bytes(BLOCK), len(content) // 2)


def garbage(content, rng):
    """A block of another file."""
    place = int(rng.integers(len(content) // 4, len(content) * 3 // 4))
    return _replace(content, rng.bytes(BLOCK), place)


def flipped_byte(content, rng):
    """One wrong byte, behind the header."""
    place = int(rng.integers(len(content) // 4, len(content)))
    wrong = content[place] ^ int(rng.integers(1, 256))
    return _replace(content, bytes([wrong]), place)


def _replace(content, block, place):
    end = min(len(content), place + len(block))
    return content[:place] + block[: end - place] + content[end:]


KINDS = (cut, cut_and_ended, zero_tail, zero_block, garbage, flipped_byte)


def refused(content):
    """True for what the decoder does not take."""
    try:
        decode_whole(content)
    except ValueError:
        return True
    return False


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder')
    parser.add_argument('--images', type=int, default=100)
    args = parser.parse_args()
    paths = list_images(args.folder, readable_suffixes(), set())
    pictures = [Image.open(p).convert('RGB') for p in paths[: args.images]]
    titles = ' | '.join(kind.__name__.replace('_', ' ') for kind in KINDS)
    print(f'| format | whole | {titles} |\n|{"---|" * (len(KINDS) + 2)}')
    for name, (kind, options) in FORMATS.items():
        rng = np.random.default_rng(0)
        files = [encode(picture, kind, **options) for picture in pictures]
        counts = [sum(map(refused, files))]
        for damage in KINDS:
            counts.append(sum(refused(damage(file, rng)) for file in files))
        row = ' | '.join(f'{100 * n / len(files):.0f}' for n in counts)
        print(f'| {name} | {row} |', flush=True)


if __name__ == '__main__':
    main()
