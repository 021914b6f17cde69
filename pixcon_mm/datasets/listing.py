"""List of the image files in folders."""

import logging
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from pathlib import Path

import cv2
from mmengine.logging import print_log
from PIL import Image, features

from pixcon_mm.datasets.storage import is_away, patiently
from pixcon_mm.errors import UserError
from pixcon_mm.files import as_line, from_line
from pixcon_mm.wording import counted

# Pillow's names of the formats that hold photographs, each with the optional
# module of Pillow that decodes it, or None if every build does.
FORMATS = {
    **dict.fromkeys(('BMP', 'DIB', 'GIF', 'JPEG', 'MPO', 'PNG')),
    **dict.fromkeys(('PPM', 'TIFF')),
    **{'AVIF': 'avif', 'JPEG2000': 'jpg_2000', 'WEBP': 'webp'},
}
# Suffixes of these formats whose files hold floats, and never photographs.
OTHERS = {'.pfm'}
MAX_KINDS = 8
# What OpenCV reads, in any case.
OPENCV_SUFFIXES = (
    *('.jpg', '.jpeg', '.jpe', '.jfif', '.png'),
    *('.bmp', '.tif', '.tiff', '.webp'),
)


@cache
def readable_suffixes() -> tuple[str, ...]:
    """Return the suffixes of image files that can be decoded here, sorted.

    This depends on how Pillow was built, and for AVIF also on OpenCV.
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


# Images that a folder may hold, readable here or not.
PICTURES = tuple(sorted({*readable_suffixes(), '.avif', '.heic', '.heif'}))


def list_images(
    folder: str,
    extensions: Sequence[str],
    visited: set[str],
    advice: str = '',
) -> list[str]:
    """List the images below a folder, sorted by path.

    Only regular files and links to them count. Files that are left out are
    counted in one line of the log; names that start with a dot are not.

    Args:
        folder (str): Where to look; paths start with it.
        extensions (Sequence[str]): Suffixes in lower case, with the dot.
        visited (set[str]): Real paths of folders already listed; extended.
            It ends circles of links and keeps overlapping folders from
            listing an image twice.
        advice (str): Lines for the end of the message if the folder is
            missing or holds no image.

    Raises:
        UserError: If the folder is missing, holds no image, or is on
            storage that is away.
    """
    if not folder:
        raise UserError(
            f'No image folder is given (data_root is empty).{advice}'
        )
    name = repr(str(Path(folder).absolute()))
    if not os.path.isdir(folder):
        fault = (
            'is not a folder' if os.path.exists(folder) else 'does not exist'
        )
        raise UserError(f'Image folder {name} {fault}.{advice}')
    paths: list[str] = []
    left_out: Counter[str] = Counter()
    before = frozenset(visited)
    is_shared = False
    places = [folder]
    while places:
        place = places.pop()
        real = os.path.realpath(place)
        is_shared |= real in before
        if real in visited:
            continue
        visited.add(real)
        try:
            folders, files, others = patiently(_read_folder, place)
        except OSError as error:
            print_log(
                f'Folder {as_line(place)} cannot be opened '
                f'({error.strerror}) and is left out.',
                logger='current',
                level=logging.WARNING,
            )
            continue
        places += sorted(folders, reverse=True)
        images = [p for p in files if p.lower().endswith(tuple(extensions))]
        paths += images
        for path in set(files).difference(images):
            suffix = os.path.splitext(path)[1].lower()
            left_out[as_line(suffix) if suffix else 'without suffix'] += 1
        left_out.update(others)
    if not paths and not is_shared:
        holds = f' They hold {_counts(left_out)}.' if left_out else ''
        raise UserError(
            f'Image folder {name} and its subfolders hold no image (a file '
            f'that ends in {", ".join(extensions)}).{holds}{advice}'
        )
    if left_out:
        print_log(
            f'{len(paths)} images in {as_line(folder)}; left out: '
            f'{_counts(left_out)}.',
            logger='current',
        )
    return sorted(paths)


def read_list(file: str, folder: str) -> list[str]:
    """Read the paths of images from a list, an image once.

    Args:
        file (str): UTF-8 text with one path per line, as
            :func:`pixcon_mm.files.as_line` writes it; empty lines are
            ignored.
        folder (str): Where relative paths start.

    Raises:
        UserError: If the list cannot be read or is empty, or if a file that
            it names is missing.
    """
    try:
        with open(file, encoding='utf-8-sig') as lines:
            names = [from_line(line.rstrip('\n')) for line in lines]
    except (OSError, ValueError) as error:
        raise UserError(
            f'The list of images {as_line(file)} cannot be read ({error}): '
            'name a UTF-8 text file in ann_file, by its path from data_root '
            'or by its absolute path.'
        ) from error
    # A dict instead of a set, because it keeps the order. a.jpg and ./a.jpg
    # are one image; normpath() would also change a/../b, wrong for links.
    paths = [*dict.fromkeys(str(Path(folder, name)) for name in names if name)]
    if not paths:
        raise UserError(
            f'The list of images {as_line(file)} is empty: write the path of '
            'an image on each line.'
        )
    missing = missing_files(paths)
    if missing:
        first = next(path for path in paths if path in missing)
        raise UserError(
            f'{as_line(file)} lists {counted(len(paths), "image")}, of which '
            f'{len(missing):,} cannot be found; the first is '
            f'{as_line(first)}: paths must be absolute or start at data_root.'
        )
    return paths


def _read_folder(folder: str) -> tuple[list[str], list[str], list[str]]:
    """Return the folders and files in a folder, and kinds of other entries."""
    folders, files, others = [], [], []
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.name[0] == '.':
                continue
            try:
                # These calls read the disk only for links.
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


def _counts(left_out: Counter[str]) -> str:
    """Show numbers and kinds, the most frequent first."""
    named = left_out.most_common(MAX_KINDS)
    parts = [f'{count} {kind}' for kind, count in named]
    rest = left_out.total() - sum(count for _, count in named)
    return ', '.join([*parts, *([f'{rest} of other kinds'] if rest else [])])


def images_by_stem(folder: str) -> dict[str, str]:
    """Find the images below a folder.

    Names that start with a dot are left out.

    Returns:
        dict[str, str]: Path relative to the folder, by that path without its
        suffix; sorted.

    Raises:
        UserError: If a folder cannot be read, or if two images differ in
            their suffix alone.
    """
    found: dict[str, str] = {}
    for place, names in walk(folder):
        for name in names:
            stem, suffix = os.path.splitext(name)
            if suffix.lower() not in OPENCV_SUFFIXES:
                continue
            stem, path = (
                os.path.relpath(os.path.join(place, part), folder)
                for part in (stem, name)
            )
            if stem in found:
                raise UserError(
                    f'{as_line(folder)} has {found[stem]} and {path}: labels '
                    'belong to a name without suffix, so rename one of them.'
                )
            found[stem] = path
    return dict(sorted(found.items()))


def walk(folder: str) -> Iterator[tuple[str, list[str]]]:
    """Yield each folder below a folder, with the names of its files.

    Links are followed; names that start with a dot are left out.

    Raises:
        UserError: If a folder cannot be read.
    """

    def stop(error: OSError) -> None:
        # By default, os.walk would leave the folder out.
        raise UserError(
            f'{as_line(error.filename)} cannot be read ({error.strerror}), '
            'and its images would be missing: correct it, or remove it.'
        ) from error

    for place, folders, names in os.walk(
        folder, onerror=stop, followlinks=True
    ):
        # A link to a folder above it would be followed in circles.
        above = os.path.realpath(place) + os.sep
        folders[:] = [
            name
            for name in folders
            if name[0] != '.'
            and not above.startswith(
                os.path.realpath(os.path.join(place, name)) + os.sep
            )
        ]
        yield place, [name for name in names if name[0] != '.']


def missing_files(paths: Iterable[str]) -> set[str]:
    """Return the paths that name no file, listing each folder once."""
    by_folder: dict[str, list[str]] = {}
    for path in paths:
        by_folder.setdefault(os.path.dirname(path), []).append(path)
    missing: set[str] = set()
    for folder, inside in by_folder.items():
        try:
            with os.scandir(folder or '.') as entries:
                found = {
                    entry.name
                    for entry in entries
                    # isfile() takes a link that fails for a missing file.
                    if entry.is_file(follow_symlinks=False)
                    or os.path.isfile(entry.path)
                }
        except OSError:
            found = set()
        missing |= {p for p in inside if os.path.basename(p) not in found}
    return missing


def spread(count: int | None, total: int) -> list[int]:
    """Choose evenly spaced indices, including the first and the last.

    Args:
        count (int, optional): Number of indices, at most; all if None.
        total (int): Number of items; indices are below it.

    Example:
        >>> spread(3, 9), spread(4, 2)
        ([0, 4, 8], [0, 1])
    """
    count = total if count is None else min(count, total)
    return [round(i * (total - 1) / max(count - 1, 1)) for i in range(count)]
