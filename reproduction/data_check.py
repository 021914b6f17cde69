"""Whether the files that runs read are there, and how many of them."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import translate
from pathlib import Path

from reproduction.plan import Data


@dataclass(frozen=True)
class Count:
    """How many files match a pattern.

    Args:
        pattern (str): Below the root.
        found (int): Files that match.
        expected (int): Files that should.
        missing (str, optional): The first part of the path that is not
            there, or cannot be opened.
        reason (str, optional): Why it cannot be opened.
    """

    pattern: str
    found: int
    expected: int
    missing: str | None = None
    reason: str | None = None

    @property
    def is_complete(self) -> bool:
        """Whether there are as many as there should be, or more."""
        return self.missing is None and self.found >= self.expected


@dataclass(frozen=True)
class Verdict:
    """What was found of a tree of files.

    Args:
        root (str): Its folder.
        is_there (bool): Whether there is such a folder.
        counts (tuple[Count, ...]): One per pattern, in the plan's order.
    """

    root: str
    is_there: bool
    counts: tuple[Count, ...]

    @property
    def is_complete(self) -> bool:
        """Whether runs find what they read."""
        return self.is_there and all(c.is_complete for c in self.counts)

    @property
    def sentence(self) -> str:
        """In a line: complete, incomplete or missing, and what."""
        if not self.is_there:
            return f'missing: there is no folder {self.root}'
        missing = dict.fromkeys(
            f'{c.missing} cannot be opened ({c.reason})'
            if c.reason
            else f'there is no {c.missing}'
            for c in self.counts
            if c.missing
        )
        short = [
            f'{c.pattern} has {c.found:,} of {c.expected:,} files'
            for c in self.counts
            if not (c.missing or c.is_complete)
        ]
        if missing or short:
            state = 'missing' if missing else 'incomplete'
            return f'{state}: {"; ".join([*missing, *short])}'
        return f'complete: {"; ".join([self._sum(), *self._surplus()])}'

    @property
    def tree(self) -> str:
        """What should be there, a line for the root and each pattern."""
        lines = [
            f'\n    {Path(self.root) / c.pattern}'
            + (f'  ({c.expected:,} files)' if _is_pattern(c.pattern) else '')
            for c in self.counts
        ]
        return f'{self.root} should hold{"".join(lines)}'

    def _sum(self) -> str:
        """Single files are counted together."""
        parts = [f'{c.found:,}' for c in self.counts if _is_pattern(c.pattern)]
        single = len(self.counts) - len(parts)
        total = sum(c.found for c in self.counts)
        parts += [f'{single:,}'] if single else []
        return f'{" + ".join(parts) or 0} file{"s" if total != 1 else ""}'

    def _surplus(self) -> list[str]:
        return [
            f'{c.pattern} has {c.found - c.expected:,} more than the usual '
            f'{c.expected:,}'
            for c in self.counts
            if c.found > c.expected
        ]


def check(data: Data) -> Verdict:
    """Count the files of a tree; more than expected are no mistake.

    Patterns are those of a shell: ``*`` and ``?`` stay within a folder, and
    take no names that start with a dot; ``**`` is any number of folders,
    also none; at the end, all files below. Links are followed; a link to
    nothing is no file.

    Args:
        data (Data): Root and patterns.
    """
    return Verdict(
        data.root,
        os.path.isdir(data.root),
        tuple(
            _count(data.root, pattern, expected)
            for pattern, expected in data.files.items()
        ),
    )


def _count(root: str, pattern: str, expected: int) -> Count:
    missing = _missing(root, pattern)
    if missing:
        return Count(pattern, 0, expected, missing)
    try:
        found = sum(_matches(root, pattern.split('/')))
    except OSError as error:
        place = error.filename or root
        return Count(pattern, 0, expected, place, error.strerror)
    return Count(pattern, found, expected)


def _missing(root: str, pattern: str) -> str | None:
    """The first part of a path, up to its first wildcard, not there."""
    path = root
    for part in ['', *pattern.split('/')]:
        if _is_pattern(part):
            return None
        path = os.path.join(path, part) if part else path
        if not os.path.exists(path):
            return path
    return None


def _matches(
    folder: str, parts: list[str], above: frozenset[str] = frozenset()
) -> Iterator[int]:
    """Numbers of files, folder by folder.

    Args:
        folder (str): Where to look.
        parts (list[str]): Of the pattern, below the folder.
        above (frozenset[str]): Real paths that ``**`` has come through: a
            link back to one of them would have no end.
    """
    head, *rest = parts
    if not _is_pattern(head):
        path = os.path.join(folder, head)
        if rest and os.path.isdir(path):
            yield from _matches(path, rest)
        elif not rest:
            yield int(os.path.isfile(path))
    elif head == '**':
        real = os.path.realpath(folder)
        if real in above:
            return
        yield from _matches(folder, rest or ['*'])
        for path in _folders(folder, '*'):
            yield from _matches(path, parts, above | {real})
    elif rest:
        for path in _folders(folder, head):
            yield from _matches(path, rest)
    else:
        with os.scandir(folder) as entries:
            takes = _matcher(head)
            yield sum(takes(e.name) and e.is_file() for e in entries)


def _folders(folder: str, pattern: str) -> list[str]:
    takes = _matcher(pattern)
    with os.scandir(folder) as entries:
        return [e.path for e in entries if takes(e.name) and e.is_dir()]


def _matcher(pattern: str) -> Callable[[str], bool]:
    """Whether a name matches, with a shell's rule for leading dots."""
    match = re.compile(translate(pattern)).match
    if pattern.startswith('.'):
        return lambda name: match(name) is not None
    return lambda name: name[0] != '.' and match(name) is not None


def _is_pattern(text: str) -> bool:
    return re.search(r'[*?[]', text) is not None
