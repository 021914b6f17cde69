"""Findings of a label check, as sentences."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from pixcon_mm.wording import share

STOP, WARNING, NOTE = 'stop', 'warning', 'note'


@dataclass
class Report:
    """Findings about one data set, and the files that they depend on.

    Args:
        name (str): File or folder of the labels; sentences begin with it.
        found (list[tuple[str, str]]): Levels and sentences. ``stop``: the run
            would fail or compute nonsense; ``warning``: probably a mistake;
            ``note``: counts.
        files (dict[str, list[int]]): Size in bytes and times of change in
            nanoseconds of the files and folders that were read.
        present (list[str]): Names of the classes that occur.
        is_whole (bool): All labels were read, not a sample of them.
    """

    name: str = ''
    found: list[tuple[str, str]] = field(default_factory=list)
    files: dict[str, list[int]] = field(default_factory=dict)
    present: list[str] = field(default_factory=list)
    is_whole: bool = True

    def add(self, level: str, sentence: str) -> None:
        """Add a finding."""
        self.found.append((level, f'{self.name}: {sentence}'))

    def add_cases(
        self,
        level: str,
        cases: Sequence | np.ndarray,
        total: int,
        what: str,
        verb: str,
        advice: str,
        describe: Callable[[Any], str] = str,
    ) -> None:
        """Add a count of the cases with a problem, if any; name the first.

        Args:
            level (str): ``STOP``, ``WARNING`` or ``NOTE``.
            cases (Sequence | np.ndarray): The cases with the problem.
            total (int): Number of cases with and without the problem.
            what (str): Noun for a case, in the singular.
            verb (str): What is wrong with a case.
            advice (str): What to do.
            describe (Callable): Function that names a case.
        """
        if len(cases):
            first = describe(cases[0])
            count = share(len(cases), total, what, verb)
            self.add(level, f'{count} (the first: {first}): {advice}.')

    def add_repeated(self, items: Sequence[str]) -> None:
        """Add a count of the images that a list names more than once."""
        counts = Counter(items)
        self.add_cases(
            WARNING,
            [item for item, count in counts.items() if count > 1],
            len(counts),
            'image',
            'is listed more than once',
            'it is trained on, or counted in metrics, as often',
        )

    def depends_on(self, paths: Iterable[str]) -> None:
        """Remember the state of files and folders, missing ones included."""
        for path in paths:
            self.files[path] = state_of(path)


def state_of(path: str) -> list[int]:
    """Return size (bytes) and times of change (ns), zeros if missing.

    A copy may keep the first time, when its original was modified, but not
    the second one, when the file's entry in the file system changed.
    """
    try:
        found = os.stat(path)
    except OSError:
        return [0, 0, 0]
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns]
