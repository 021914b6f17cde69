"""Small file systems, for faults that only a real one shows."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


def run(*command: str) -> None:
    """Run a command that needs rights; without them the case is left out."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = done.stderr.strip().rpartition('\n')[2]
        pytest.skip(f'`{" ".join(command[:3])}` failed: {reason}')


@contextlib.contextmanager
def small_disk(place: Path, size: str) -> Iterator[Path]:
    """Mount a file system in memory, of a size such as '14m'."""
    place.mkdir()
    run('mount', '-t', 'tmpfs', '-o', f'size={size}', 'tmpfs', str(place))
    try:
        yield place
    finally:
        subprocess.run(['umount', '-l', str(place)], check=True)


def remount(place: Path, options: str) -> None:
    run('mount', '-o', f'remount,{options}', str(place))


def small_shared_memory(size: str) -> tuple[str, ...]:
    """Make the prefix of a command that gets its own /dev/shm."""
    run('unshare', '-m', 'true')
    mount = f'mount -t tmpfs -o size={size} tmpfs /dev/shm'
    return ('unshare', '-m', 'sh', '-c', f'{mount} && exec "$@"', 'sh')


def few_files(limit: int) -> tuple[str, ...]:
    """Make the prefix of a command that may open so many files."""
    return ('sh', '-c', f'ulimit -n {limit} && exec "$@"', 'sh')
