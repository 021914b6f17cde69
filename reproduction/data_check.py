"""Check that the files that runs read are there, and how many of them."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from reproduction.plan import Data


@dataclass(frozen=True)
class DataCheck:
    """Result of a check of one tree of files."""

    data: Data
    found: dict[str, int]  # number of files by pattern
    error: str = ''  # why files could not be counted

    @property
    def is_complete(self) -> bool:
        """True if runs find what they read; more files are no mistake."""
        return not self.error and all(
            self.found[pattern] >= expected
            for pattern, expected in self.data.files.items()
        )

    @property
    def sentence(self) -> str:
        """Summary in a line: complete, incomplete or missing, and what."""
        if self.error:
            return f'missing: {self.error}'
        state = 'complete' if self.is_complete else 'incomplete'
        differences = [
            f'{pattern} has {self.found[pattern]:,} of {expected:,} files'
            for pattern, expected in self.data.files.items()
            if self.found[pattern] != expected
        ]
        total = f'{sum(self.found.values()):,} files'
        return f'{state}: {"; ".join(differences) or total}'

    @property
    def tree(self) -> str:
        """The files that should be there, a line for each pattern."""
        lines = [f'{self.data.root} should hold']
        for pattern, expected in self.data.files.items():
            is_glob = glob.has_magic(pattern)
            count = f'  ({expected:,} files)' if is_glob else ''
            lines.append(f'    {Path(self.data.root, pattern)}{count}')
        return '\n'.join(lines)


def check_data_set(data: Data) -> DataCheck:
    """Count the files of a tree.

    Patterns are those of :mod:`glob`; ``**`` is any number of folders. Links
    are followed; a link to nothing is no file.
    """
    if not os.path.isdir(data.root):
        return DataCheck(data, {}, f'there is no folder {data.root}')
    try:
        found = {p: _count(data.root, p) for p in data.files}
    except OSError as error:
        problem = f'{error.filename} cannot be opened ({error.strerror})'
        return DataCheck(data, {}, problem)
    return DataCheck(data, found)


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
