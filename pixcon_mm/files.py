"""Files that are written whole or not at all."""

import json
import os
from pathlib import Path

from pixcon_mm.errors import UserError


def write_whole(path: Path, content: bytes) -> None:
    """Write a file that a tool's option ``--out`` names.

    Args:
        path (Path): The file; its folder is made.
        content (bytes): All of it.

    Raises:
        UserError: If it cannot be written. What was there is untouched.
    """
    part = path.with_name(f'.{path.name}.{os.getpid()}.part')
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, 'wb') as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # else a power cut may leave it empty
        os.replace(part, path)
    except OSError as error:
        raise UserError(
            f'{path} cannot be written ({error.strerror}): choose another '
            'place with --out.'
        ) from error
    finally:
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
