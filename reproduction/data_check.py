"""Check that the files that runs read are there, and how many of them."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path

from reproduction.plan import Data


@dataclass(frozen=True)
class DataCheck:
    """Result of a check of one tree of files."""

    data: Data
    # Clauses on parts of paths that are not there or cannot be opened.
    missing: list[str]
    found: dict[str, int] = field(default_factory=dict)  # by other patterns

    @property
    def is_complete(self) -> bool:
        """True if runs find what they read; more files are no mistake."""
        return not self.missing and all(
            count >= self.data.files[pattern]
            for pattern, count in self.found.items()
        )

    @property
    def sentence(self) -> str:
        """Summary in a line: complete, incomplete or missing, and what."""
        fewer, more, counts = [], [], []
        for pattern, count in self.found.items():
            expected = self.data.files[pattern]
            if count < expected:
                text = f'{pattern} has {count:,} of {expected:,} files'
                fewer.append(text)
            if count > expected:
                text = f'{count - expected:,} more than the usual {expected:,}'
                more.append(f'{pattern} has {text}')
            if glob.has_magic(pattern):
                counts.append(f'{count:,}')
        if self.missing or fewer:
            state = 'missing' if self.missing else 'incomplete'
            return f'{state}: {"; ".join([*self.missing, *fewer])}'
        single = len(self.found) - len(counts)
        counts += [str(single)] if single else []
        files = 'file' if sum(self.found.values()) == 1 else 'files'
        total = f'{" + ".join(counts) or 0} {files}'
        return f'complete: {"; ".join([total, *more])}'

    @property
    def tree(self) -> str:
        """The files that should be there, a line for each pattern."""
        lines = [f'{self.data.root} should hold']
        for pattern, expected in self.data.files.items():
            is_glob = glob.has_magic(pattern)
            count = f'  ({expected:,} files)' if is_glob else ''
            lines.append(f'    {Path(self.data.root, pattern)}{count}')
        return '\n'.join(lines)


def check_data(data: Data) -> DataCheck:
    """Count the files of a tree.

    Patterns are those of :mod:`glob`; ``**`` is any number of folders. Links
    are followed; a link to nothing is no file.
    """
    if not os.path.isdir(data.root):
        return DataCheck(data, [f'there is no folder {data.root}'])
    missing: list[str] = []
    found = {}
    for pattern in data.files:
        absent = _find_absent(data.root, pattern)
        if absent:
            missing.append(f'there is no {absent}')
            continue
        try:
            found[pattern] = _count(data.root, pattern)
        except OSError as error:
            place, reason = error.filename, error.strerror
            missing.append(f'{place} cannot be opened ({reason})')
    return DataCheck(data, list(dict.fromkeys(missing)), found)


def _find_absent(root: str, pattern: str) -> str | None:
    """Find the first part of a path, up to a wildcard, that is not there."""
    path = root
    for part in pattern.split('/'):
        if glob.has_magic(part):
            return None
        path = os.path.join(path, part)
        if not os.path.exists(path):
            return path
    return None


def _count(root: str, pattern: str) -> int:
    folder, _, name = pattern.rpartition('/')
    place = os.path.join(glob.escape(root), folder, '')
    paths = glob.iglob(place, recursive=True)
    count = 0
    # A folder that is reached by several links counts once.
    for path in {os.path.realpath(p): p for p in paths}.values():
        with os.scandir(path) as entries:
            # Unlike a stat for each of 120,000 images, this is fast.
            count += sum(
                fnmatchcase(entry.name, name)
                and (entry.name[0] == '.') == (name[0] == '.')
                and entry.is_file()
                for entry in entries
            )
    return count
