"""Which files of a folder are images."""

import logging
import os
import re
from collections import Counter
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import cv2
from mmengine.logging import print_log
from PIL import Image, features

from pixcon_mm.datasets.storage import is_away, patiently
from pixcon_mm.errors import UserError
from pixcon_mm.files import as_line

# Pillow's names of the formats that hold photographs; the module of Pillow
# that decodes one where not every build has it.
FORMATS = {
    **dict.fromkeys(('BMP', 'DIB', 'GIF', 'JPEG', 'MPO', 'PNG')),
    **dict.fromkeys(('PPM', 'TIFF')),
    **{'AVIF': 'avif', 'JPEG2000': 'jpg_2000', 'WEBP': 'webp'},
}
# Suffixes of theirs for files that are never photographs: floats.
OTHERS = {'.pfm'}
MAX_KINDS = 8

EXPECTED = """Any folder of images will do, subfolders included; for COCO:
  data/coco/
  └── train2017/
      ├── 000000000009.jpg
      └── ...
To use another folder, add --cfg-options data_root=/path/to/images"""


@cache
def readable_suffixes() -> tuple[str, ...]:
    """Suffixes of the image files that can be decoded here.

    Returns:
        tuple[str, ...]: In lower case, with the dot, sorted. Pillow's
            build decides, for AVIF OpenCV's as well.

    Example:
        >>> {'.jpg', '.jfif', '.png', '.tif'} <= set(readable_suffixes())
        True
    """
    known = Image.registered_extensions()
    formats = {
        name
        for name, module in FORMATS.items()
        if name in Image.OPEN and (not module or features.check(module))
    }
    if not re.search(r'AVIF: +(?!NO)\S', cv2.getBuildInformation()):
        formats.discard('AVIF')
    found = {suffix for suffix, name in known.items() if name in formats}
    return tuple(sorted(found - OTHERS))


def list_images(
    folder: str, extensions: Sequence[str], visited: set[str]
) -> list[str]:
    """List the images below a folder, sorted by path.

    Only regular files and links to them count. Files that are left out are
    counted in one line of the log; names that start with a dot are not.

    Args:
        folder (str): Where to look.
        extensions (Sequence[str]): Suffixes in lower case, with the dot.
        visited (set[str]): Real paths of folders already listed; extended.
            It ends circles of links and keeps overlapping folders from
            listing an image twice.

    Returns:
        list[str]: Paths that start with ``folder``.

    Raises:
        UserError: If the folder is missing, holds no image, or is on
            storage that is away.
    """
    if not folder or not os.path.isdir(folder):
        raise UserError(_missing(folder))
    paths: list[str] = []
    left_out: Counter[str] = Counter()
    here: set[str] = set()
    is_shared = False
    places = [folder]
    while places:
        place = places.pop()
        real = os.path.realpath(place)
        is_shared |= real in visited
        if real in visited or real in here:
            continue
        here.add(real)
        try:
            folders, files, others = patiently(_read_folder, place)
        except OSError as error:
            _skip_folder(place, error)
            continue
        places += sorted(folders, reverse=True)
        images = [p for p in files if p.lower().endswith(tuple(extensions))]
        paths += images
        if len(images) < len(files):
            left_out.update(_suffix(p) for p in set(files).difference(images))
        left_out.update(others)
    if not paths and not is_shared:
        raise UserError(_empty(folder, extensions, left_out))
    if left_out:
        print_log(
            f'{len(paths)} images in {as_line(folder)}; left out: '
            f'{_counts(left_out)}.',
            logger='current',
        )
    visited |= here
    return sorted(paths)


def _read_folder(folder: str) -> tuple[list[str], list[str], list[str]]:
    """Paths of folders and of files in it, and what else there is."""
    folders, files, others = [], [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name[0] == '.':
                continue
            try:
                # Without asking the disk, links excepted.
                if entry.is_dir():
                    folders.append(entry.path)
                elif entry.is_file():
                    files.append(entry.path)
                elif os.path.exists(entry.path):
                    others.append('FIFO, device or socket')
                else:
                    others.append('link to nowhere')
            except OSError as error:
                if is_away(entry.path, error):
                    raise
                others.append('link to nowhere')
    return folders, files, others


def _suffix(path: str) -> str:
    suffix = os.path.splitext(path)[1].lower()
    return as_line(suffix) if suffix else 'without suffix'


def _counts(left_out: Counter[str]) -> str:
    """Numbers and kinds, the most frequent first.

    Example:
        >>> _counts(Counter({'.heic': 3, 'link to nowhere': 1}))
        '3 .heic, 1 link to nowhere'
    """
    named = left_out.most_common(MAX_KINDS)
    parts = [f'{count} {kind}' for kind, count in named]
    rest = left_out.total() - sum(count for _, count in named)
    return ', '.join([*parts, *([f'{rest} of other kinds'] if rest else [])])


def _skip_folder(folder: str, error: OSError) -> None:
    print_log(
        f'Folder {as_line(folder)} cannot be opened ({error.strerror}) and '
        'is left out.',
        logger='current',
        level=logging.WARNING,
    )


def _missing(folder: str) -> str:
    if not folder:
        return f'No image folder is given (data_root is empty).\n{EXPECTED}'
    what = 'is not a folder' if os.path.exists(folder) else 'does not exist'
    absolute = Path(folder).absolute()
    return f'Image folder {str(absolute)!r} {what}.\n{EXPECTED}'


def _empty(
    folder: str, extensions: Sequence[str], left_out: Counter[str]
) -> str:
    absolute = Path(folder).absolute()
    holds = f' They hold {_counts(left_out)}.' if left_out else ''
    return (
        f'Image folder {str(absolute)!r} and its subfolders hold no image '
        f'(a file that ends in {", ".join(extensions)}).{holds}\n{EXPECTED}'
    )
