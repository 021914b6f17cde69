"""Files that are written whole or not at all."""

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
