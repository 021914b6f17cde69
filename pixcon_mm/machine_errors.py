"""Things a machine lacks or loses during a run, put into a sentence."""

import errno
import os
import re
import shutil

from pixcon_mm.processes import StoppedWorkerWatch


def explain_machine(error: BaseException) -> str | None:
    """Put an error into a sentence if the machine is its cause.

    Args:
        error (BaseException): Of Python or PyTorch.

    Returns:
        str | None: What is wrong and what to do; None for another error.

    Example:
        >>> explain_machine(OSError(errno.EROFS, 'read-only', 'x.pth'))[:33]
        'x.pth: the file system is read-on'
    """
    return _lost_worker(error) or _no_resource(error)


# What a machine can run out of, and what helps. Checkpoints that are complete
# stay as they are.
RESOURCES = {
    errno.ENOENT: 'there is no such file or folder: check the path, and that '
    'nothing was moved or removed during the run',
    errno.ENOSPC: 'the disk is full: make room',
    errno.EDQUOT: 'the disk quota is used up: make room',
    errno.EFBIG: 'the file is larger than the limit (`ulimit -f`): raise it',
    errno.EROFS: 'the file system is read-only: choose another folder',
    errno.EACCES: 'permission denied: choose another folder, or change who '
    'may write there',
    errno.EPERM: 'permission denied: choose another folder, or change who '
    'may write there',
    errno.ENOTDIR: 'a part of the path is a file: choose another folder',
    errno.EMFILE: 'too many open files: raise the limit (`ulimit -n 65536`) '
    'or lower num_workers',
    errno.ENFILE: 'the machine has too many open files: lower num_workers',
    errno.ENOMEM: 'out of memory: lower num_workers or batch_size',
    errno.EIO: 'the storage does not answer: check disk and network',
    errno.ESTALE: 'the network file system has lost the file: check it',
}


KEPT = 'Complete checkpoints are kept; continue with --resume.'
SMALL_SHM = (
    'The shared memory (/dev/shm) is too small for the loader: enlarge it '
    '(docker: --shm-size=8g), or lower num_workers or batch_size. '
    f'{KEPT}'
)


def _is_shm_full() -> bool:
    """Check for less than a megabyte of shared memory."""
    try:
        return shutil.disk_usage('/dev/shm').free < 1 << 20
    except OSError:
        return False


def _no_resource(error: BaseException) -> str | None:
    # Some libraries turn an OSError into an error of their own, as torch
    # does: "No space left on device (28)".
    number = getattr(error, 'errno', None)
    if number is None and isinstance(error, RuntimeError):
        number = next(
            (n for n in RESOURCES if os.strerror(n) in str(error)), None
        )
    if isinstance(error, MemoryError):
        number = errno.ENOMEM
    name = getattr(error, 'filename', None)
    if number not in RESOURCES or (number == errno.ENOENT and not name):
        return None
    if number == errno.ENOSPC and not name and _is_shm_full():
        return SMALL_SHM
    place = f'{os.fsdecode(name)}: ' if isinstance(name, str | bytes) else ''
    return f'{place}{RESOURCES[number]}. {KEPT}'


LOST_WORKER = (
    'A worker of the loader {}. If nobody did that, the machine ran out of '
    'memory: lower num_workers or batch_size.'
)


def _lost_worker(error: BaseException) -> str | None:
    # Of PyTorch's loader.
    text = str(error)
    # A worker that dies while it passes a batch closes the socket of the
    # batch's memory before PyTorch finds out that it is dead. Python raises
    # EOFError without words only there.
    is_end = isinstance(error, EOFError) and not error.args
    if is_end or isinstance(error, ConnectionError):
        lost, how = StoppedWorkerWatch.killed, 'ended while it passed a batch'
        return _stopped_worker(lost) or f'{LOST_WORKER.format(how)} {KEPT}'
    # A file in /dev/shm.
    is_shared = '</torch_' in text and os.strerror(errno.ENOSPC) in text
    is_loader = is_shared or 'DataLoader' in text
    # Sharing memory also takes descriptors, whose lack is another matter.
    lacks_files = os.strerror(errno.EMFILE) in text
    if not isinstance(error, RuntimeError) or not is_loader or lacks_files:
        return None
    if is_shared or 'Bus error' in text or 'shared memory' in text:
        return SMALL_SHM
    if 'timed out' in text:
        seconds = re.search(r'after (\d+)', text)
        return (
            'No worker of the loader gave a batch for '
            f'{seconds[1] if seconds else "some"} seconds: check the storage '
            'of the images, and that no worker is stopped; '
            f'train_dataloader.timeout is how long to wait. {KEPT}'
        )
    # "worker (pid 7) is killed by ...", "worker (pid(s) 7, 8) exited ...".
    pids = re.search(r'worker \(pid(?:\(s\))? ([\d, ]+)\)', text)
    if pids:
        lost = {int(pid) for pid in pids[1].split(',')}
        if sentence := _stopped_worker(lost & StoppedWorkerWatch.killed):
            return sentence
    if 'exited unexpectedly' in text or 'killed by signal' in text:
        cause = re.search(r'killed by signal: (\w+)', text)
        how = f'was ended by a signal ({cause[1]})' if cause else 'has ended'
        return f'{LOST_WORKER.format(how)} {KEPT}'
    return None


def _stopped_worker(pids: set[int]) -> str | None:
    if not pids:
        return None
    return (
        'A worker of the loader was stopped (SIGSTOP) and did not continue '
        'within train_dataloader.timeout, so it was killed: find out what '
        f'stops it. {KEPT}'
    )
