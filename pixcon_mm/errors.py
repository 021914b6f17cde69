"""Mistakes a user can correct, put into a sentence."""

import difflib
import inspect
import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

from pixcon_mm.machine_errors import explain_machine
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
            or explain_machine(link)
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
