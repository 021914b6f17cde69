"""Folder of a run: one run at a time, and nothing is lost in it."""

import contextlib
import fcntl
import os
import re
import shutil
import socket
from pathlib import Path
from typing import IO

from pixcon_mm.checkpoint.run_checkpoint import list_checkpoints
from pixcon_mm.errors import UserError
from pixcon_mm.files import remove_parts

LOCK = '.lock'


def claim(work_dir: Path, resumes: bool, overwrite: bool) -> IO[str]:
    """Lock the folder of a run.

    Args:
        work_dir (Path): The folder; it is made if it does not exist.
        resumes (bool): Whether the run continues from the checkpoints there.
        overwrite (bool): Whether to start over if there are some;
            :func:`clear` removes them later.

    Returns:
        IO[str]: The lock, which holds as long as the file is open.

    Raises:
        UserError: If the folder cannot be written, another run uses it, or a
            new run would mix its checkpoints with those of an earlier one.
    """
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        # Not 'w': its owner has written its name there.
        lock = open(work_dir / LOCK, 'a+')  # noqa: SIM115
    except OSError as error:
        raise UserError(
            f'Work directory {work_dir} cannot be written ({error.strerror}):'
            ' choose another with --work-dir.'
        ) from error
    try:
        # Held by this process alone, not by the workers that it forks, which
        # may outlive it for a moment.
        fcntl.lockf(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.seek(0)
        raise UserError(
            f'{work_dir} is in use by another run ({lock.read().strip()}): '
            'wait until it ends, stop it, or choose another folder with '
            '--work-dir.'
        ) from None
    except OSError:
        pass  # a file system without locks
    with contextlib.suppress(OSError):
        # The disk may be full; the error of the first checkpoint will say so.
        lock.truncate(0)
        lock.write(f'process {os.getpid()} on {socket.gethostname()}\n')
        lock.flush()
    remove_parts(work_dir)
    checkpoints = list_checkpoints(work_dir)
    if checkpoints and not resumes and not overwrite:
        raise UserError(
            f'{work_dir} has checkpoints of an earlier run '
            f'({checkpoints[-1].name}): continue it with --resume, start '
            'over with --overwrite, which moves them aside, or choose '
            'another folder with --work-dir.'
        )
    return lock


def clear(work_dir: Path, own_log: Path, discard: bool) -> Path | None:
    """Remove an earlier run with checkpoints from a folder, for a new one.

    Args:
        work_dir (Path): The folder, which this process has claimed.
        own_log (Path): Folder of the new run's log, which stays.
        discard (bool): Delete the earlier run instead of moving it aside.

    Returns:
        Path | None: Where it is now; None if there was none, or if it was
        deleted.
    """
    if not list_checkpoints(work_dir):
        return None
    logs = [
        path
        for path in work_dir.iterdir()
        # MMEngine's names for the log of a run.
        if re.fullmatch(r'\d{8}_\d{6}', path.name)
        and path.is_dir()
        and not path.is_symlink()
        and path.name != own_log.name
    ]
    files = [*work_dir.glob('*.pth')]
    if not discard:
        return set_aside(work_dir, [*files, *logs])
    for path in files:
        path.unlink()
    for folder in logs:
        shutil.rmtree(folder)
    return None


def set_aside(work_dir: Path, paths: list[Path]) -> Path:
    """Move files of a run into a new folder ``old-N`` beside them."""
    number = 1
    while (aside := work_dir / f'old-{number}').exists():
        number += 1
    aside.mkdir()
    for path in paths:
        path.rename(aside / path.name)
    return aside
