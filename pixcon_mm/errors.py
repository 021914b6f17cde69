"""Mistakes a user can correct, put into a sentence."""

import difflib
import errno
import inspect
import logging
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

from pixcon_mm.processes import SIGNALS, kill_workers


class UserError(RuntimeError):
    """A mistake the user can correct: says what is wrong, where, what to do.

    Tools show it as a sentence, without a traceback. Where several processes
    stop for the same reason, the first one of a machine says so.

    Args:
        sentence (str): The message.
        is_own (bool): Whether it concerns this process alone, which then
            does not wait for the first one to speak.

    Example:
        >>> print(UserError('Traceback ... pixcon_mm.errors.UserError: No.'))
        No.
    """

    def __init__(self, sentence: str, is_own: bool = False):
        self.is_own = is_own
        # torch re-raises a loader's error with its traceback as message.
        super().__init__(sentence.rpartition('UserError: ')[2].strip())


def run_tool(main: Callable[[], None]) -> None:
    """Run a tool; exit with one sentence on a mistake the user can correct.

    With ``PIXCON_MM_TRACEBACK=1`` in the environment, with a traceback.
    """
    # What cannot be written to a log will not fit into a checkpoint either,
    # and that is reported below, once.
    logging.raiseExceptions = False
    threading.excepthook = report_thread
    try:
        main()
    except KeyboardInterrupt:
        print('Stopped.', file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        # Objects that were never complete may complain when they are deleted.
        sys.unraisablehook = lambda _: None
        # Signals end the process from here on, and no worker keeps it.
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        kill_workers()
        # The first process of a machine speaks for all, and its launcher
        # ends the others. One that is still there failed alone.
        is_own = getattr(error, 'is_own', False)
        if int(os.environ.get('LOCAL_RANK', 0)) > 0 and not is_own:
            time.sleep(2)
        sentence = explain(error)
        if sentence is None or os.environ.get('PIXCON_MM_TRACEBACK'):
            raise
        print(f'error: {sentence}', file=sys.stderr)
        sys.exit(1)


def report_thread(args: threading.ExceptHookArgs) -> None:
    """Show the traceback of a thread that failed, unless it was to write.

    TensorBoard writes in a thread, whose error the main one gets as well.
    """
    if not issubclass(args.exc_type, OSError):
        threading.__excepthook__(args)


def explain(error: BaseException) -> str | None:
    """Put an error into a sentence, if it is a user's mistake.

    Covers :class:`UserError`, also where another error followed from it,
    what the frameworks raise for a config with unknown keys or types and for
    an image that cannot be read, and what a machine runs out of.

    Args:
        error (BaseException): What ended the run.

    Returns:
        str | None: The sentence, or None for an error of ours.

    Example:
        >>> explain(UserError('No images in data/.'))
        'No images in data/.'
        >>> explain(ValueError('a bug')) is None
        True
    """
    link = error
    while link is not None:
        if isinstance(link, UserError):
            return str(link)
        sentence = (
            _unknown_argument(link)
            or _unknown_type(link)
            or _no_image(link)
            or _no_samples(link)
            or _lost_worker(link)
            or _no_resource(link)
            or _lost_peer(link)
        )
        if sentence:
            return sentence
        link = link.__cause__ or link.__context__
    return None


def _unknown_argument(error: BaseException) -> str | None:
    match = re.search(
        r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'",
        str(error),
    )
    if not (isinstance(error, TypeError) and match):
        return None
    class_name, name = match.groups()
    frame, frames = _builder(error), _frames(error)
    caller = frames[-1].f_globals if frames else {}
    if frame and name in frame['args']:
        cls = frame['obj_cls']
    elif caller.get('__name__', '').startswith('mmengine.'):
        # MMEngine calls these itself: loaders, loops, schedulers.
        cls = caller.get(class_name)
    else:
        # The call that failed is one inside the constructor: a bug.
        return None
    known = [
        arg
        for base in inspect.getmro(cls or object)
        if '__init__' in vars(base) and base is not object
        for arg in inspect.signature(base.__init__).parameters
    ]
    return (
        f'The config gives {cls.__name__ if cls else class_name} a key '
        f'{name!r} that it does not take.{suggest(name, known)}'
    )


def _unknown_type(error: BaseException) -> str | None:
    match = re.match(
        r"'?(\S+) is not in the (\S+) registry", str(error).strip('"')
    )
    frame = _builder(error)
    if not (isinstance(error, KeyError) and match and frame):
        return None
    known, registry = [], frame['registry']
    while registry is not None:
        known += list(registry.module_dict)
        registry = registry.parent
    name, kind = match[1], frame['registry'].name
    return (
        f'The config has type={name!r}, and no {kind} of that name is '
        f'registered.{suggest(name, known)} If it is your own, name its '
        'module in custom_imports.'
    )


def _no_image(error: BaseException) -> str | None:
    # mmcv's loading of images, possibly passed on by a loader's worker.
    match = re.search(r'failed to load image: (.+)', str(error))
    if not (isinstance(error, AssertionError) and match):
        return None
    return (
        f'{match[1]} cannot be read as an image: replace it, or take it out '
        'of the data set.'
    )


def _no_samples(error: BaseException) -> str | None:
    # MMEngine's data sets join their samples into one array.
    frames = [
        f for f in _frames(error) if f.f_code.co_name == '_serialize_data'
    ]
    if not (isinstance(error, ValueError) and frames):
        return None
    return f'A data set is empty: {describe(frames[-1].f_locals["self"])}.'


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


SMALL_SHM = (
    'The shared memory (/dev/shm) is too small for the loader: enlarge it '
    '(docker: --shm-size=8g), or lower num_workers or batch_size. Complete '
    'checkpoints are kept; continue with --resume.'
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
    return (
        f'{place}{RESOURCES[number]}. Complete checkpoints are kept; continue '
        'with --resume.'
    )


def _lost_worker(error: BaseException) -> str | None:
    # Of PyTorch's loader.
    text = str(error)
    # A file in /dev/shm.
    is_shared = '</torch_' in text and os.strerror(errno.ENOSPC) in text
    is_loader = is_shared or 'DataLoader' in text
    # Sharing memory also takes descriptors, whose lack is another matter.
    lacks_files = os.strerror(errno.EMFILE) in text
    if not isinstance(error, RuntimeError) or not is_loader or lacks_files:
        return None
    after = 'Complete checkpoints are kept; continue with --resume.'
    if is_shared or 'Bus error' in text or 'shared memory' in text:
        return SMALL_SHM
    if 'timed out' in text:
        seconds = re.search(r'after (\d+)', text)
        return (
            'No worker of the loader gave a batch for '
            f'{seconds[1] if seconds else "some"} seconds: check the storage '
            'of the images, and that no worker is stopped; '
            f'train_dataloader.timeout is how long to wait. {after}'
        )
    if 'exited unexpectedly' in text or 'killed by signal' in text:
        cause = re.search(r'killed by signal: (\w+)', text)
        how = f'was ended by a signal ({cause[1]})' if cause else 'has ended'
        return (
            f'A worker of the loader {how}. If nobody did that, the machine '
            f'ran out of memory: lower num_workers or batch_size. {after}'
        )
    return None


def _lost_peer(error: BaseException) -> str | None:
    # Of gloo and of NCCL.
    lost = r'Connection (closed|reset) by peer|\[.*gloo.*\]|ncclRemoteError'
    if not isinstance(error, RuntimeError) or not re.search(lost, str(error)):
        return None
    return (
        'The connection to another process of the run is lost, which has '
        'ended or whose machine is away: its own message says why. Complete '
        'checkpoints are kept; continue with --resume.'
    )


def describe(dataset: object) -> str:
    """Say where a data set of OpenMMLab looked for its samples."""
    names = ('data_prefix', 'ann_file', 'img_suffix', 'seg_map_suffix')
    values = {n: getattr(dataset, n, None) for n in names}
    found = ', '.join(f'{n}={v!r}' for n, v in values.items() if v)
    return f'{type(dataset).__name__} found nothing with {found}'


def suggest(name: str, known: list[str]) -> str:
    """A sentence with the closest known name, or nothing.

    Example:
        >>> suggest('dept', ['depth', 'style'])
        " Did you mean 'depth'?"
    """
    match = difflib.get_close_matches(name, known, n=1)
    return f' Did you mean {match[0]!r}?' if match else ''


def _frames(error: BaseException) -> list[FrameType]:
    """Frames of a traceback, the innermost last."""
    frames, trace = [], error.__traceback__
    while trace is not None:
        frames.append(trace.tb_frame)
        trace = trace.tb_next
    return frames


def _builder(error: BaseException) -> dict | None:
    """Local variables of the innermost registry build in a traceback."""
    for frame in reversed(_frames(error)):
        if frame.f_code.co_name == 'build_from_cfg':
            return frame.f_locals
    return None
