"""Reading files from storage that may be unreachable for a while."""

import errno
import os
import stat
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import TypeVar

from pixcon_mm.errors import UserError
from pixcon_mm.files import as_line
from pixcon_mm.machine_errors import RESOURCES

# Seconds. The other processes of a run wait for this one in a collective
# operation, which NCCL ends after ten minutes.
PATIENCE = 300.0
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 30.0

# Errors that may be the file's own fault, if its folder can be listed. All
# others come from the disk, the network or the machine.
OF_A_FILE = {
    *(errno.ENOENT, errno.ENOTDIR, errno.EACCES, errno.EPERM),
    *(errno.ELOOP, errno.ENAMETOOLONG, errno.EISDIR, errno.ENXIO),
}

# Errors of the machine, not of the storage.
OF_THE_MACHINE = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)

Result = TypeVar('Result')


def read_file(path: str, max_bytes: int, patience: float = PATIENCE) -> bytes:
    """Read a regular file, waiting ``patience`` seconds for its storage.

    Raises:
        OSError: If this file cannot be read, while others can.
        ValueError: If it is not a regular file, or larger than ``max_bytes``.
        UserError: If the storage does not come back in time.
    """
    return patiently(partial(_read, max_bytes=max_bytes), path, patience)


def patiently(
    action: Callable[[str], Result], path: str, patience: float = PATIENCE
) -> Result:
    """Repeat an action on a path while its storage does not answer.

    Warns on stderr when the first pause begins and when the action succeeds.
    It does not use a logger, because loader workers call it, and the log file
    belongs to the process of the training.

    Raises:
        OSError: The action's error, if it is the fault of the path itself.
        UserError: If the storage does not come back within ``patience``
            seconds.
    """
    start, pause = time.monotonic(), FIRST_PAUSE
    while True:
        try:
            result = action(path)
        except OSError as error:
            if not is_away(path, error):
                return action(path)  # it may have come back in between
            waited = time.monotonic() - start
            if waited + pause > patience:
                where = as_line(os.path.dirname(os.path.abspath(path)))
                advice = f'check that the storage of {where} is mounted'
                if error.errno in OF_THE_MACHINE:
                    advice = RESOURCES[error.errno]
                raise UserError(
                    f'{as_line(path)} could not be read for {waited:.0f} s '
                    f'({error.strerror}), which is not the fault of the file: '
                    f'{advice}. Then run the command again (a training with '
                    '--resume).'
                ) from error
            if pause == FIRST_PAUSE:
                warn(
                    f'{as_line(path)} cannot be read ({error.strerror}), '
                    'which is not the fault of the file: waiting up to '
                    f'{patience:.0f} s.'
                )
        else:
            if pause > FIRST_PAUSE:
                waited = time.monotonic() - start
                warn(f'{as_line(path)} was read after {waited:.0f} s.')
            return result
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)


def is_away(path: str, error: OSError) -> bool:
    """Check if an error comes from the storage, not from one file or folder.

    A missing file counts as missing only if its folder, after links are
    resolved, still holds something: the mount point of a disk that is not
    mounted is an empty folder.
    """
    if error.errno not in OF_A_FILE:
        return True
    try:
        with os.scandir(os.path.dirname(os.path.realpath(path))) as entries:
            return next(entries, None) is None
    except OSError:
        return True


def warn(message: str) -> None:
    """Print a warning to stderr, also below a progress bar."""
    if sys.__stderr__:
        print(f'warning: {message}', file=sys.__stderr__, flush=True)


def _read(path: str, max_bytes: int) -> bytes:
    # A FIFO without a writer would block the call that opens it.
    def opener(name, flags):
        return os.open(name, flags | getattr(os, 'O_NONBLOCK', 0))

    with open(path, 'rb', opener=opener) as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise ValueError('it is not a regular file')
        if found.st_size > max_bytes:
            raise ValueError(
                f'it has {found.st_size / 1e6:.0f} MB, more than '
                f'{max_bytes / 1e6:.0f}'
            )
        os.set_blocking(file.fileno(), True)
        return file.read(found.st_size)
