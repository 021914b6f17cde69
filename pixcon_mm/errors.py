"""Errors that a user can correct, each explained in a sentence."""

import difflib
import importlib.util
import inspect
import logging
import os
import re
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from socket import gaierror
from urllib.error import URLError

from mmengine import registry as registries
from mmengine.config import Config
from mmengine.registry import DefaultScope, Registry
from torch.utils.data import DataLoader

from pixcon_mm.machine_errors import Troubles, explain_machine, find_trouble
from pixcon_mm.processes import SIGNALS, kill_workers

# Seconds that other processes wait for the first one of their machine to show
# its error.
WAIT = 10
TROUBLES: Troubles = (
    # mmcv's LoadImageFromFile, perhaps in a worker of a loader
    (
        AssertionError,
        # The last one: a worker's message has its traceback, with the code.
        r'(?s:.*)failed to load image: (.+)',
        '{} cannot be read as an image: replace it, or take it out of the '
        'data set. tools/check_data.py CONFIG --all finds all such images.',
    ),
    # MMEngine's registries, which build the parts of a config
    (
        KeyError,
        r'must contain the key "type", but got (.+)',
        'A part of the config has no type: {}. In a config file, a list '
        'replaces that of its base as a whole, so each of its parts needs its '
        'type and all settings.',
    ),
    # MMEngine's runner
    (
        TypeError,
        'hook should be an instance of Hook or dict, but got (.+)',
        'custom_hooks has {0}, which is no dict. On the command line, add a '
        'hook as --cfg-options default_hooks.NAME.type=..., with any new '
        'NAME; custom_hooks can be set in a config file.',
    ),
    (
        ValueError,
        r"cannot find context for '(.+)'",
        'env_cfg.mp_cfg.mp_start_method={0} is unknown: choose fork, spawn or '
        'forkserver.',
    ),
    # MMEngine's loops and schedules
    (
        AssertionError,
        r'`(max_epochs|max_iters)` should be a integer number, but get (.+?)'
        r'\.?$',
        'train_cfg.{0}={1} must be a whole number.',
    ),
    (
        ValueError,
        'end should be larger than begin, but got begin=(.+), end=(.+)',
        'A part of param_scheduler begins at {0} and ends at {1}, but must '
        'end later: check it, and the length of the run in train_cfg.',
    ),
    # MMEngine's data preprocessor
    (
        AssertionError,
        r'`(mean|std)` should have 1 or 3 values.+got (\d+)',
        'model.data_preprocessor.{0} has {1} values: give one per channel, '
        'which are 3 for colour images.',
    ),
    # PyTorch's sampler of batches
    (
        ValueError,
        r'batch_size should be a positive integer value, but got (\S+)',
        'A loader of the config has {0}: it must be a whole number above 0.',
    ),
    # MMEngine's data sets, which concatenate their samples into one array
    (
        ValueError,
        'need at least one array to concatenate',
        'A data set is empty: check data_root, data_prefix, ann_file and the '
        'suffixes of the data sets in the config.',
    ),
    # torch.nn.functional.batch_norm
    (
        ValueError,
        'Expected more than 1 value per channel when training',
        'A batch norm of the model got a single value per channel, which has '
        'no variance: train with at least 2 images per batch on each process '
        '(train_dataloader.batch_size), and with '
        'train_dataloader.drop_last=True if the last batch has one.',
    ),
    # Swin of MMPretrain
    (
        AssertionError,
        r'input shape (\(.+\)) is smaller than the window size \((\d+)\)',
        'A feature map of the network has {0} cells, and its attention takes '
        'windows of {1} x {1}: use larger crops, or set '
        'model.backbone.pad_small_map=True. --quick has crops of 128 px.',
    ),
    # timm
    (
        AssertionError,
        r"Input (?:height|width) \((\d+)\) doesn't match model \((\d+)\)",
        'The network takes images of {1} pixels, and got some of {0}: change '
        'the size of the crops, or set model.backbone.img_size={0}. --quick '
        'has crops of 128 px.',
    ),
    # MMEngine's collection of results for the metrics
    (
        FileNotFoundError,
        r'(.+) is not an shared directory for rank (\d+)',
        '{0} does not have the results of process {1}: with several machines, '
        'the work directory must be on storage that all of them share. '
        'Evaluate the checkpoint on one machine with tools/dist_test.sh.',
    ),
    # backends of MMEngine's visualizer: wandb, mlflow and others
    (
        ImportError,
        r'Please run "(pip install (?:[^"]* )?([^" ]+))" to install',
        'The config uses {1}, which is not installed: run `{0}`, or remove it '
        'from the config (visualizer.vis_backends).',
    ),
    # weights of another project's config, by their address, or of timm
    (
        (URLError, ConnectionResetError, ConnectionRefusedError, gaierror),
        r'^(?:<urlopen error )?(.+?)>?$',
        'A download or another connection has failed ({}): check the network '
        'and the address. You can also download a file yourself and put its '
        'path into the config.',
    ),
)


class UserError(RuntimeError):
    """A mistake that the user can correct.

    The message says what is wrong, where, and what to do. Tools show it
    without a traceback. If several processes stop for the same reason, only
    the first one of a machine shows it.

    Args:
        sentence (str): The message.
        is_own (bool): Only this process has the error, so it shows the
            message without waiting for the first process.

    Example:
        >>> print(UserError('Traceback ... pixcon_mm.errors.UserError: No.'))
        No.
    """

    def __init__(self, sentence: str, is_own: bool = False):
        self.is_own = is_own
        # torch re-raises a loader's error with its traceback as message.
        super().__init__(sentence.rpartition('UserError: ')[2].strip())


def run_tool(main: Callable[[], None]) -> None:
    """Run a tool; for an error that the user can correct, print a sentence.

    With ``PIXCON_MM_TRACEBACK=1`` in the environment, show the traceback.
    """
    # If the disk is full, the log would report it again and again. Saving a
    # checkpoint fails as well, and that is reported once, below.
    logging.raiseExceptions = False
    threading.excepthook = _report_thread
    try:
        check_clone(Path(sys.argv[0]))
        main()
    except KeyboardInterrupt:
        print('Stopped.', file=sys.stderr)
        sys.exit(130)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _reader_is_gone():
            # As `| head` leaves it. Nothing can be written at the exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(141)
        # Half-initialised objects may raise errors when they are deleted.
        sys.unraisablehook = lambda _: None
        # From here on, signals end the process, and it waits for no worker.
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        kill_workers()
        # The first process of a machine shows the error, and its launcher ends
        # the others. A process that still runs after the wait failed alone.
        is_own = getattr(error, 'is_own', False)
        if int(os.environ.get('LOCAL_RANK', 0)) > 0 and not is_own:
            time.sleep(WAIT)
        sentence = explain(error)
        if sentence is None or os.environ.get('PIXCON_MM_TRACEBACK'):
            raise
        print(f'error: {sentence}', file=sys.stderr)
        sys.exit(1)


def check_clone(script: Path) -> None:
    """Check that a script in tools/ and this package are of one clone.

    With two clones and one environment, the script of one would run the code
    of the other, the one that is installed.

    Raises:
        UserError: If there is another package beside the script.
    """
    script, installed = script.resolve(), Path(__file__).resolve().parents[1]
    clone = script.parents[1] if script.parent.name == 'tools' else installed
    # A wheel has no tools of its own, so a clone's tools may run its code.
    is_other = clone != installed and (installed / 'tools/launch.sh').is_file()
    if is_other and (clone / 'pixcon_mm/errors.py').is_file():
        raise UserError(
            f'{script} belongs to another clone than {installed}, from which '
            f'Python imports pixcon_mm: run the tools of {installed}, or set '
            f'PYTHONPATH={clone}, or run `pip install -e {clone}`.'
        )


def _reader_is_gone() -> bool:
    """Check for a pipe behind the standard output whose reader has ended."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def _report_thread(args: threading.ExceptHookArgs) -> None:
    """Show the traceback of a thread, unless its error is an OSError.

    TensorBoard writes in a thread, and raises such errors in the main thread
    as well.
    """
    if not issubclass(args.exc_type, OSError):
        threading.__excepthook__(args)


def explain(error: BaseException, cfg: Config | None = None) -> str | None:
    """Explain an error, or the error that caused it, in a sentence.

    This works for :class:`UserError`, for errors in a config or in data that
    the frameworks find, and for problems of the machine.

    Args:
        error (BaseException): The error that ended the run.
        cfg (Config, optional): Config of the run, which is needed to explain
            an unknown key.

    Returns:
        str | None: The sentence; None for other errors, such as bugs.

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
            _unknown_key(link, cfg)
            or _unknown_type(link)
            or explain_machine(link)
            or find_trouble(link, TROUBLES)
        )
        if sentence:
            return sentence
        is_hidden = link.__suppress_context__  # by "raise ... from None"
        link = link.__cause__ or (None if is_hidden else link.__context__)
    return None


def _unknown_key(error: BaseException, cfg: Config | None) -> str | None:
    """Explain an unexpected argument, if it comes from the config."""
    match = re.search(
        r"(\w+)\.__init__\(\) got an unexpected keyword argument '(\w+)'",
        str(error),
    )
    if not (isinstance(error, TypeError) and match):
        return None
    refusing, key = match.groups()
    for node in dicts_in(cfg):
        if key not in node:
            continue
        # A dict without a type is one of a loader or loop, which MMEngine
        # builds.
        cls = _find_class(node.get('type', refusing)) or object
        bases = [b for b in inspect.getmro(cls) if b is not object]
        # The error may come from a base class of the class in the config.
        if refusing in {base.__name__ for base in bases}:
            known = [
                name
                for base in bases
                if '__init__' in vars(base)
                for name in inspect.signature(base.__init__).parameters
            ]
            return (
                f'The config gives {cls.__name__} a key {key!r} that it does '
                f'not take.{suggest(key, known)}'
            )
    return None


def _unknown_type(error: BaseException) -> str | None:
    match = re.match(
        r"'?(\S+) is not in the (\w+)::([\w ]+) registry",
        str(error).strip('"'),
    )
    if not (isinstance(error, KeyError) and match):
        return None
    return unknown_type(*match.groups())


def unknown_type(name: str, scope: str | None, kind: str) -> str:
    """Say that no class of a name is registered, and suggest others.

    Args:
        name (str): The type in the config.
        scope (str, optional): Scope in which it was looked for.
        kind (str): Name of the registry, such as 'dataset'.
    """
    known: list[str] = []
    for root in _registries():
        if root.name == kind:
            known += root.module_dict
            if scope in root.children:
                known += root.children[scope].module_dict
    return (
        f'The config has type={name!r}, and no {kind} of that name is '
        f'registered.{suggest(name, known)} If it is your own, name its '
        'module in custom_imports.'
    )


def suggest(name: str, known: list[str]) -> str:
    """Return a sentence with the closest known name, or nothing.

    Example:
        >>> suggest('dept', ['depth', 'style'])
        " Did you mean 'depth'?"
    """
    match = difflib.get_close_matches(name, known, n=1)
    return f' Did you mean {match[0]!r}?' if match else ''


def check_installed(what: str, extra: str, *packages: str) -> None:
    """Stop if an optional package is missing.

    Args:
        what (str): Option or feature that needs the packages.
        extra (str): Extra of this project that installs them.
        *packages (str): Names for import.
    """
    for package in packages:
        if importlib.util.find_spec(package) is None:
            raise UserError(
                f'{what} needs {package}: pip install -c '
                f'requirements/constraints.txt -e ".[{extra}]"'
            )


def dicts_in(node: object) -> Iterator[dict]:
    """Iterate over all dicts in a config or a part of one."""
    if isinstance(node, Config):
        node = node._cfg_dict
    if isinstance(node, dict):
        yield node
        node = [*node.values()]
    if isinstance(node, list | tuple):
        for child in node:
            yield from dicts_in(child)


def _registries() -> list[Registry]:
    return [r for r in vars(registries).values() if isinstance(r, Registry)]


def _find_class(kind: str | type) -> type | None:
    """Return the class for a ``type`` in a config, or None."""
    if not isinstance(kind, str):
        return kind if inspect.isclass(kind) else None
    if kind == 'DataLoader':
        return DataLoader
    current = DefaultScope.get_current_instance()
    scope = current.scope_name if current else ''
    for root in _registries():
        # MMEngine's own switch of the scope warns where a registry lacks it.
        found = root.children.get(scope, root).get(kind)
        if inspect.isclass(found):
            return found
    return None
