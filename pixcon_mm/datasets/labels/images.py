"""Check of the images of labelled data sets."""

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, TypeVar

import cv2
import numpy as np

from pixcon_mm.datasets.decoding import decode_whole
from pixcon_mm.datasets.image_header import read_size
from pixcon_mm.datasets.labels.report import STOP, WARNING, Report
from pixcon_mm.datasets.labels.sources import Source
from pixcon_mm.errors import UserError
from pixcon_mm.files import as_line
from pixcon_mm.progress import with_progress

THREADS = 4
MOST_PIXELS = 2**30  # that OpenCV decodes
Size = tuple[int, int]  # width and height
Item = TypeVar('Item')
Result = TypeVar('Result')


class _Picture(NamedTuple):
    """An image file.

    Args:
        path (str): The file.
        size (tuple[int, int], optional): Width and height, None if a run
            would fail to read it.
        problem (str): What is wrong with it, or nothing.
    """

    path: str
    size: Size | None
    problem: str = ''

    def describe(self) -> str:
        """Name the file and its problem."""
        return f'{as_line(self.path)}, {self.problem}'


def in_threads(
    read: Callable[[Item], Result], items: Sequence[Item], title: str
) -> list[Result]:
    """Read files in a few threads, with a bar on a terminal.

    Args:
        read (Callable): Function of an item.
        items (Sequence): What it is called with.
        title (str): Title of the bar.

    Returns:
        list: The results, in the order of the items.
    """
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        return [*with_progress(pool.map(read, items), len(items), title)]


def read_sizes(
    paths: Sequence[str], source: Source, report: Report
) -> dict[str, Size]:
    """Read the sizes of images, and report those that cannot be read.

    If the check is of all files instead of a sample, the images are decoded
    as well.

    Args:
        paths (Sequence[str]): Image files that exist.
        source (Source): Their data set.
        report (Report): Receives the findings.

    Returns:
        dict[str, tuple[int, int]]: Width and height by path, without the
        images that cannot be read.
    """
    read = _read_header if source.sample is not None else _decode
    pictures = in_threads(read, paths, 'images')
    report.add_cases(
        STOP,
        [picture for picture in pictures if picture.size is None],
        len(pictures),
        'image',
        'cannot be read',
        'replace them, or remove them from the data set',
        _Picture.describe,
    )
    report.add_cases(
        WARNING,
        [p for p in pictures if p.size is not None and p.problem],
        len(pictures),
        'image',
        'is damaged',
        'a part of them may be grey or wrong, so replace them, or remove them '
        'from the data set',
        _Picture.describe,
    )
    return {p.path: p.size for p in pictures if p.size is not None}


def read_names(file: str) -> list[str]:
    """Read the list of a data set's images, a name per line.

    Raises:
        UserError: If OpenMMLab would fail to read it, or would take something
            else for a name.
    """
    where = as_line(file)
    try:
        text = Path(file).read_text('utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f'{where} cannot be read ({error}): it must be UTF-8 text that '
            'names an image on each line.'
        ) from error
    if text.startswith('\ufeff'):
        raise UserError(
            f'{where} begins with a byte order mark, which would become a '
            'part of the first name: save it as UTF-8 without this mark.'
        )
    # Not splitlines(), which also splits at other characters.
    names = text.removesuffix('\n').split('\n') if text else []
    empty = [i for i, name in enumerate(names, 1) if not name.strip()]
    if empty:
        raise UserError(
            f'{where}: line {empty[0]} is empty, and would be taken for a '
            'name: remove it.'
        )
    return names


def _read_header(path: str) -> _Picture:
    try:
        return _Picture(path, read_size(path))
    except OSError as error:
        return _Picture(path, None, str(error))


def _decode(path: str) -> _Picture:
    """Decode as OpenMMLab's data sets do, and strictly."""
    found = _read_header(path)
    if found.size is None:
        return found
    try:
        content = Path(path).read_bytes()
        pixels = np.frombuffer(content, np.uint8)
        if cv2.imdecode(pixels, cv2.IMREAD_COLOR) is None:
            return _Picture(path, None, 'OpenCV cannot decode it')
    except (OSError, cv2.error) as error:
        return _Picture(path, None, str(error))
    try:
        decode_whole(content, MOST_PIXELS)
    except ValueError as error:
        return found._replace(problem=str(error))
    return found
