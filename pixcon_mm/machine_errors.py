"""Explanations of errors that the machine causes, not the code or the data."""

import errno
import os
import re
import shutil
import traceback

from pixcon_mm.processes import StoppedWorkerWatch

# Errors of libraries: type, pattern of the message, and message for the user.
Troubles = tuple[tuple[type | tuple[type, ...], str, str], ...]
MESSAGES: Troubles = (
    # torch.OutOfMemoryError, and errors of CUDA's libraries
    (
        RuntimeError,
        r'CUDA (?:error: )?out of memory',
        'The GPU has too little memory: lower the batch size, train in mixed '
        'precision (--amp), or end other processes on this GPU (nvidia-smi).',
    ),
    # torch.compile, whose errors begin with the name of the original one
    (
        RuntimeError,
        r'^(?:InvalidCxxCompiler|CppCompileError|CalledProcessError|'
        r'RuntimeError: Failed to find C compiler)',
        'torch.compile cannot compile code on this machine. It needs a C++ '
        "compiler and Python's headers; on Debian and Ubuntu, `sudo apt "
        'install g++ python3-dev`. Or train without it: '
        'model.compile_backbone=False.',
    ),
    # gloo and NCCL, and the store through which their processes meet
    (
        RuntimeError,
        r'Connection (?:closed|reset) by peer|\[.*gloo.*\]|ncclRemoteError|'
        r'Connection was likely closed|socket has timed out|ncclUniqueId',
        'The connection to another process of the run is lost: that process '
        'has ended, or its machine cannot be reached. Its own message says '
        'why.',
    ),
)
KEPT = (
    'Complete checkpoints of a training are kept; continue it with --resume.'
)


def explain_machine(error: BaseException) -> str | None:
    """Explain an error in a sentence if the machine is its cause.

    Args:
        error (BaseException): Error of Python or PyTorch.

    Returns:
        str | None: What is wrong and what to do; None for other errors.

    Example:
        >>> explain_machine(OSError(errno.EROFS, 'read-only', 'x.pth'))[:33]
        'x.pth: the file system is read-on'
    """
    sentence = (
        _lost_worker(error)
        or _no_resource(error)
        or find_trouble(error, MESSAGES)
    )
    return f'{sentence} {KEPT}' if sentence else None


def find_trouble(error: BaseException, troubles: Troubles) -> str | None:
    """Return the message for an error of a library, if there is one."""
    # A KeyError would quote its message.
    is_quoted = isinstance(error, KeyError) and error.args
    text = str(error.args[0] if is_quoted else error)
    for kind, pattern, sentence in troubles:
        match = re.search(pattern, text)
        if isinstance(error, kind) and match:
            return sentence.format(*match.groups())
    return None


# Cause and advice for each error number of the operating system.
RESOURCES = {
    errno.ENOENT: 'there is no such file or folder: check the path, and that '
    'nothing was moved or removed during the run',
    errno.ENOSPC: 'the disk is full: make room',
    errno.EDQUOT: 'the disk quota is used up: make room',
    errno.EFBIG: 'the file is larger than the limit (`ulimit -f`): raise it',
    errno.EROFS: 'the file system is read-only: choose another folder',
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM),
        'permission denied: choose another path, or change who may use it',
    ),
    errno.ENOTDIR: 'a part of the path is a file: choose another folder',
    errno.EMFILE: 'too many open files: raise the limit (`ulimit -n 65536`) '
    'or lower num_workers',
    errno.ENFILE: 'the machine has too many open files: lower num_workers',
    errno.ENOMEM: 'out of memory: lower num_workers or batch_size',
    errno.EIO: 'the storage does not answer: check disk and network',
    errno.ESTALE: 'the network file system has lost the file: check it',
}
SMALL_SHM = (
    'The shared memory (/dev/shm) is too small for the loader: enlarge it '
    '(docker: --shm-size=8g), or lower num_workers or batch_size.'
)


def _is_shm_full() -> bool:
    """Check if less than a megabyte of shared memory is free."""
    try:
        return shutil.disk_usage('/dev/shm').free < 1 << 20
    except OSError:
        return False


def _no_resource(error: BaseException) -> str | None:
    # Some libraries, such as torch, turn an OSError into an error of their
    # own: "No space left on device (28)".
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
    return f'{place}{RESOURCES[number]}.'


LOST_WORKER = (
    'A worker of the loader {}. If nobody did that, the machine ran out of '
    'memory: lower num_workers or batch_size.'
)


def _lost_worker(error: BaseException) -> str | None:
    text = str(error)
    # If a worker dies while it passes a batch, the socket for the batch's
    # memory is closed before PyTorch notices that the worker is dead.
    if isinstance(error, EOFError | ConnectionError) and any(
        '/multiprocessing/' in frame.f_code.co_filename
        for frame, _ in traceback.walk_tb(error.__traceback__)
    ):
        lost, how = StoppedWorkerWatch.killed, 'ended while it passed a batch'
        return _stopped_worker(lost) or LOST_WORKER.format(how)
    # PyTorch's files in /dev/shm have such names.
    is_shared = '</torch_' in text and os.strerror(errno.ENOSPC) in text
    is_loader = is_shared or 'DataLoader' in text
    # Sharing memory also needs file descriptors, a case for _no_resource.
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
            'train_dataloader.timeout sets this limit.'
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
        return LOST_WORKER.format(how)
    return None


def _stopped_worker(pids: set[int]) -> str | None:
    if not pids:
        return None
    return (
        'A worker of the loader was stopped (SIGSTOP) and did not continue '
        'within train_dataloader.timeout, so it was killed: find out what '
        'stops it.'
    )
