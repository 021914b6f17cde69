"""Files that are written whole or not at all."""

import errno
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from pixcon_mm.errors import UserError

PART = '.part'  # suffix of a file that is being written


@contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """Open a file that gets its name only when it is complete and on disk.

    The content is written to a hidden file in the same folder, so that an
    older file of that name stays unchanged after a crash or with a full disk.
    If the process is killed, :func:`remove_parts` removes the hidden file.

    Args:
        path (Path): The file. Its folder must exist.

    Yields:
        IO[bytes]: The file, open for writing.
    """
    part = path.with_name(f'.{path.name}.{os.getpid()}{PART}')
    try:
        with open(part, 'wb') as file:
            yield file
            file.flush()
            os.fsync(file.fileno())  # else it may be empty after a power cut
        os.replace(part, path)
        _sync_folder(path.parent)
    finally:
        part.unlink(missing_ok=True)


def _sync_folder(path: Path) -> None:
    """Write new names of files in a folder to disk, if the system can."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    except OSError as error:
        # Some network file systems refuse it.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise
    finally:
        os.close(folder)


def atomic_write(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all, for a tool.

    Args:
        path (Path): The file; its folder is made.
        content (bytes): All of it.

    Raises:
        UserError: If it cannot be written. What was there is untouched.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as file:
            file.write(content)
    except OSError as error:
        raise UserError(
            f'{path} cannot be written ({error.strerror}): make room, or '
            'choose another place.'
        ) from error


def check_out(path: Path) -> None:
    """Check that a file can be written, before the long work starts.

    Raises:
        UserError: If its folder cannot be written, or the path is a folder
            itself.
    """
    check_folder(path.parent)
    if path.is_dir():
        raise UserError(f'{path} is a folder: name a file in it with --out.')


def check_folder(folder: Path, option: str = '--out') -> None:
    """Make a folder for results, and check that it can be written.

    Args:
        folder (Path): The folder.
        option (str): Option that names it, for the message.

    Raises:
        UserError: If it cannot be made, or no file can be written there.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Permissions do not show it for root, nor on network storage.
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise UserError(
            f'{folder} cannot be written ({error.strerror}): name another '
            f'place with {option}.'
        ) from error


def remove_parts(folder: Path) -> None:
    """Remove incomplete files that killed processes have left."""
    for part in folder.glob(f'.*{PART}'):
        part.unlink(missing_ok=True)


def as_line(path: str | os.PathLike) -> str:
    r"""Write a path for a log or a list so that it is exactly one line.

    A path with control characters, with bytes that are not UTF-8 or with a
    double quote at its start becomes a JSON string in ASCII.
    :func:`from_line` is the inverse.

    Example:
        >>> print(as_line('Füße/1.jpg'), as_line('a\nb.jpg'))
        Füße/1.jpg "a\nb.jpg"
    """
    path = os.fspath(path)
    is_plain = path.isprintable() and not path.startswith('"')
    return path if is_plain else json.dumps(path)


def from_line(line: str) -> str:
    r"""Read what :func:`as_line` wrote.

    Example:
        >>> os.fsencode(from_line('"caf\\udce9.jpg"'))
        b'caf\xe9.jpg'
    """
    return json.loads(line) if line.startswith('"') else line
