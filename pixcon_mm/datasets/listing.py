"""Which files of a folder are images."""

import logging
import os
from pathlib import Path

from mmengine.logging import print_log

from pixcon_mm.errors import UserError

EXTENSIONS = (
    *('.jpg', '.jpeg', '.png', '.bmp', '.webp', '.tif', '.tiff'),
    *('.ppm', '.pgm'),
)

EXPECTED = """Any folder of images will do, subfolders included; for COCO:
  data/coco/
  └── train2017/
      ├── 000000000009.jpg
      └── ...
To use another folder, add --cfg-options data_root=/path/to/images"""


def list_images(
    folder: str, extensions: tuple[str, ...], visited: set[str]
) -> list[str]:
    """List the images below a folder, sorted by path.

    Args:
        folder (str): Where to look.
        extensions (tuple[str, ...]): Suffixes in lower case, with the dot.
        visited (set[str]): Real paths of folders already listed; extended.
            It ends circles of links and keeps overlapping folders from
            listing an image twice.

    Returns:
        list[str]: Paths that start with ``folder``.
    """
    if not folder or not os.path.isdir(folder):
        raise UserError(_missing(folder))
    paths = []
    here: set[str] = set()
    is_shared = False
    walk = os.walk(folder, followlinks=True, onerror=_skip_folder)
    for place, subfolders, names in walk:
        real = os.path.realpath(place)
        is_shared |= real in visited
        if real in visited or real in here:
            subfolders.clear()
            continue
        here.add(real)
        subfolders[:] = sorted(n for n in subfolders if n[0] != '.')
        paths += [
            os.path.join(place, name)
            for name in names
            if name.lower().endswith(extensions) and name[0] != '.'
        ]
    if not paths and not is_shared:
        raise UserError(_empty(folder, extensions))
    visited |= here
    return sorted(paths)


def _skip_folder(error: OSError) -> None:
    print_log(
        f'Folder {error.filename!r} cannot be opened ({error.strerror}) and '
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


def _empty(folder: str, extensions: tuple[str, ...]) -> str:
    absolute = Path(folder).absolute()
    return (
        f'Image folder {str(absolute)!r} and its subfolders hold no image '
        f'(a file that ends in {", ".join(extensions)}).\n{EXPECTED}'
    )
