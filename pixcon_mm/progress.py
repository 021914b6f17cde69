"""Progress bars of tools, shown only if work takes long."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

DELAY = 2.0  # seconds before a bar appears
Item = TypeVar('Item')


def with_progress(
    items: Iterable[Item], total: int, title: str
) -> Iterator[Item]:
    """Iterate; on a terminal, show a bar after ``DELAY`` seconds.

    Args:
        items (Iterable): Items to iterate over.
        total (int): Number of items.
        title (str): Title of the bar.
    """
    start, bar = time.monotonic(), None
    is_terminal = sys.stderr.isatty()
    try:
        for done, item in enumerate(items):
            yield item
            if is_terminal and time.monotonic() - start > DELAY:
                if bar is None:
                    console = Console(stderr=True)
                    bar = Progress(console=console, transient=True)
                    task = bar.add_task(title, total=total)
                    bar.start()
                bar.update(task, completed=done + 1)
    finally:
        if bar is not None:
            bar.stop()
