"""What a look at labels finds, as sentences."""

import os
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from PIL import Image
from rich.console import Console
from rich.progress import Progress

STOP, WARNING, NOTE = 'stop', 'warning', 'note'
QUIET = 2.0  # seconds before a bar appears
ORIENTATION = 0x0112  # of EXIF; from 5 on, width and height are swapped
Item = TypeVar('Item')


@dataclass
class Findings:
    """Sentences about the labels of one data set, and the files they rest on.

    Args:
        found (list[tuple[str, str]]): Levels and sentences. ``stop``: the run
            would fail or compute nonsense; ``warning``: probably a mistake;
            ``note``: counts.
        files (dict[str, list[int]]): Size in bytes and times of change in
            nanoseconds of the files and folders that were looked at.
        order (list[str]): Class names in the order of their numbers, where
            the file of annotations decides about it.
        present (list[str]): Names of the classes that occur.
        is_whole (bool): All labels were looked at, and not a sample.
    """

    found: list[tuple[str, str]] = field(default_factory=list)
    files: dict[str, list[int]] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)
    is_whole: bool = True

    def stop(self, sentence: str) -> None:
        """Add what makes the run fail."""
        self.found.append((STOP, sentence))

    def warn(self, sentence: str) -> None:
        """Add what is probably a mistake."""
        self.found.append((WARNING, sentence))

    def note(self, sentence: str) -> None:
        """Add a summary."""
        self.found.append((NOTE, sentence))

    def saw(self, paths: Iterable[str]) -> None:
        """Remember the state of files and folders; of missing ones, too."""
        for path in paths:
            self.files[path] = state_of(path)


def state_of(path: str) -> list[int]:
    """Return size (bytes) and times of change (ns), zeros if missing.

    A copy may bring its time along; the second time, of the file's entry in
    the file system, is its own.
    """
    try:
        found = os.stat(path)
    except OSError:
        return [0, 0, 0]
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns]


def counted(count: int, what: str) -> str:
    """Write a number and what it counts.

    Example:
        >>> counted(1, 'image'), counted(1200, 'category'), counted(2, 'box')
        ('1 image', '1,200 categories', '2 boxes')
    """
    if count != 1:
        end = what[-1]
        plural = {'y': what[:-1] + 'ies', 's': what + 'es', 'x': what + 'es'}
        what = plural.get(end, what + 's')
    return f'{count:,} {what}'


def part(count: int, total: int, what: str, verb: Sequence[str]) -> str:
    """Write how many of all, with the verb in singular or plural.

    Example:
        >>> part(1, 16, 'image', ('has', 'have'))
        '1 of 16 images has'
    """
    return f'{count:,} of {counted(total, what)} {verb[count != 1]}'


def listed(names: Iterable[object], most: int = 12) -> str:
    """Write a list of names, shortened in the middle of a sentence.

    Example:
        >>> listed(['cat', 'dog', 'cup'], most=2)
        "'cat', 'dog' and 1 more"
    """
    every = [repr(name) for name in names]
    more = len(every) - most
    shown = ', '.join(every[:most]) or 'none'
    return f'{shown} and {more:,} more' if more > 0 else shown


@contextmanager
def opened(path: str) -> Iterator[Image.Image]:
    """Open an image with Pillow.

    Raises:
        OSError: If the file is missing or no image, or damaged, for which
            Pillow raises several other errors.
    """
    try:
        with Image.open(path) as picture:
            yield picture
    except (OSError, MemoryError):
        raise
    except Exception as error:
        raise OSError(f'{type(error).__name__}: {error}') from error


def image_size(path: str) -> tuple[int, int]:
    """Return width and height of an image as OpenCV would decode it.

    Reads the header only. A photograph that was taken upright may be stored
    lying, with a mark; OpenCV turns it.

    Raises:
        OSError: If the file is missing or no image.
    """
    with opened(path) as picture:
        width, height = picture.size
        is_turned = picture.getexif().get(ORIENTATION, 1) >= 5
    return (height, width) if is_turned else (width, height)


@contextmanager
def any_size() -> Iterator[None]:
    """Let Pillow open images of more pixels than it takes for an attack."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def missing_files(paths: Iterable[str]) -> set[str]:
    """Return the paths that name no file, listing each folder once."""
    by_folder: dict[str, set[str]] = {}
    for path in paths:
        folder, name = os.path.split(path)
        by_folder.setdefault(folder, set()).add(name)
    missing = set()
    for folder, names in by_folder.items():
        try:
            with os.scandir(folder or '.') as entries:
                here = {entry.name for entry in entries}
        except OSError:
            here = set()
        for name in names - here:
            missing.add(os.path.join(folder, name))
    return missing


def spread(items: Sequence[Item], most: int | None) -> Sequence[Item]:
    """Choose items at equal distances, or all of them.

    Example:
        >>> spread('abcdefgh', 3)
        ['a', 'c', 'f']
    """
    if most is None or len(items) <= most:
        return items
    return [items[i * len(items) // most] for i in range(most)]


@contextmanager
def reading(what: str, size: int) -> Iterator[None]:
    """Say that a large file is read, which no bar can follow.

    Args:
        what (str): The file.
        size (int): Bytes.
    """
    # About a second for each 100 MB.
    is_long = size > 100e6 * QUIET and sys.stderr.isatty()
    text = f'reading {what} ({size / 1e6:,.0f} MB) ...'
    if is_long:
        print(text, end='\r', file=sys.stderr, flush=True)
    yield
    if is_long:
        print(' ' * len(text), end='\r', file=sys.stderr, flush=True)


def with_bar(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """Iterate, with a bar on a terminal if it takes more than 2 s."""
    start, bar = time.monotonic(), None
    is_watched = sys.stderr.isatty()
    try:
        for done, item in enumerate(items):
            yield item
            if not is_watched or done % 16:
                continue
            if bar is None and time.monotonic() - start > QUIET:
                bar = Progress(console=Console(stderr=True), transient=True)
                bar.start()
                task = bar.add_task(what, total=total)
            if bar is not None:
                bar.update(task, completed=done + 1)
    finally:
        if bar is not None:
            bar.stop()
