"""A user's mistake becomes a sentence; a bug of ours stays a traceback."""

import errno
import gc
import logging
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from http.client import RemoteDisconnected
from itertools import islice
from multiprocessing import Pipe
from multiprocessing.connection import Client
from socket import EAI_NONAME, create_connection, gaierror
from unittest.mock import patch
from urllib.request import urlopen

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import TRANSFORMS, DefaultScope
from mmengine.visualization import WandbVisBackend
from torch.utils.data import DataLoader, Dataset

from pixcon_mm.errors import UserError, explain, run_tool
from tests import ROOT
from tests.commands import run

AFTER = (
    'Complete checkpoints of a training are kept; continue it with --resume.'
)


@TRANSFORMS.register_module()
class Plain:
    def __init__(self, width, depth=1):
        if depth == 'wrong call':
            Plain(widht=width)


@TRANSFORMS.register_module()
class Child(Plain):
    def __init__(self, colour='red', **kwargs):
        super().__init__(**kwargs)


@TRANSFORMS.register_module()
class Holder:
    def __init__(self, inner):
        self.inner = TRANSFORMS.build(inner)


def explained(work, cfg=None):
    """Explain the error that ``work`` raises."""
    with pytest.raises(Exception, match='.*') as caught:
        work()
    return explain(caught.value, cfg)


def build(**cfg):
    cfg = Config(dict(pipeline=[cfg]))
    return explained(lambda: TRANSFORMS.build(cfg.pipeline[0]), cfg)


@pytest.mark.parametrize(
    ('cfg', 'words'),
    [
        (dict(type='Plain', width=1, dept=2), 'Plain dept depth'),
        (dict(type=Plain, width=1, zzz=2), 'Plain zzz'),
        # The base class refuses it, but the config names the child.
        (dict(type='Child', widt=1), 'Child widt width'),
        (dict(type='Child', width=1, color='blue'), 'Child color colour'),
        (
            dict(type='Holder', inner=dict(type='Plain', wdth=1)),
            'Plain wdth width',
        ),
    ],
)
def test_unknown_key(cfg, words):
    kind, key, *known = words.split()
    hint = f' Did you mean {known[0]!r}?' if known else ''
    assert build(**cfg).endswith(
        f'{kind} a key {key!r} that it does not take.{hint}'
    )


def test_the_search_for_a_class_warns_of_no_registry(log):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        assert build(type=Plain, width=1, dept=2).endswith("'depth'?")
        assert build(type='Plain', width=1, dept=2).endswith("'depth'?")
    assert not [r for r in log if r.levelno >= logging.WARNING]


def test_a_reader_that_ends_early_is_not_an_error():
    code = (
        'from pixcon_mm.errors import run_tool\n'
        'def main():\n'
        '    for _ in range(100000):\n'
        "        print('line')\n"
        'run_tool(main)\n'
    )
    words = [sys.executable, '-c', code]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdout=pipe, stderr=pipe) as process:
        process.stdout.readline()
        process.stdout.close()
        shown = process.stderr.read()
    assert process.returncode == 141
    assert b'Traceback' not in shown


def test_mistake_behind_other_errors():
    def because():
        try:
            raise UserError('No images.')
        except UserError as error:
            raise ValueError('bad dataset') from error

    def while_handling():
        try:
            because()
        except ValueError:
            raise KeyError('third')  # noqa: B904

    def hidden():
        try:
            because()
        except ValueError:
            raise KeyError('third') from None

    assert explained(because) == 'No images.'
    assert explained(while_handling) == 'No images.'
    assert explained(hidden) is None


class Unreadable(Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        raise UserError('Image a.png: cannot be read.')


@pytest.mark.parametrize('workers', [0, 1])
def test_mistake_found_by_a_loader_worker(workers):
    loader = DataLoader(Unreadable(), num_workers=workers)
    sentence = explained(lambda: next(iter(loader)))
    assert sentence == 'Image a.png: cannot be read.'


@pytest.mark.parametrize(
    'cfg',
    [
        # The config is right; the constructor makes the mistake.
        dict(type='Plain', width=1, depth='wrong call'),
        dict(type='Plain'),
        dict(type='Holder', inner=3),
    ],
)
def test_mistakes_of_a_constructor_are_not_explained_away(cfg):
    assert build(**cfg) is None


@pytest.mark.parametrize(
    'error',
    [
        TypeError("Plain.__init__() got an unexpected keyword argument 'w'"),
        KeyError('lost'),
        ValueError('[Errno 28] in a text'),
        FileNotFoundError(errno.ENOENT, 'No such file'),
        EOFError('Ran out of input'),
        RuntimeError('Worker (pid 7) is killed by signal'),
    ],
)
def test_bugs_are_not_explained_away(error):
    assert explain(error) is None


def test_tool_that_ends_with_a_mistake(capsys, monkeypatch):
    monkeypatch.delenv('PIXCON_MM_TRACEBACK', raising=False)
    monkeypatch.delenv('LOCAL_RANK', raising=False)
    # It would kill workers of earlier tests that have not been collected yet,
    # and PyTorch would raise an error about them in a later test.
    monkeypatch.setattr('multiprocessing.active_children', list)
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGCHLD)

    def main():
        raise UserError('No images.')

    before = {number: signal.getsignal(number) for number in numbers}
    try:
        for number in numbers:
            signal.signal(number, lambda *_: None)
        with pytest.raises(SystemExit) as stop:
            run_tool(main)
        # Nothing holds the exit up.
        for number in numbers:
            assert signal.getsignal(number) is signal.SIG_DFL
        assert stop.value.code == 1
        assert capsys.readouterr() == ('', 'error: No images.\n')
        monkeypatch.setenv('PIXCON_MM_TRACEBACK', '1')
        with pytest.raises(UserError):
            run_tool(main)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize(
    ('number', 'words'),
    [
        (errno.ENOSPC, 'the disk is full: make room'),
        (errno.EDQUOT, 'the disk quota is used up'),
        (errno.EROFS, 'the file system is read-only'),
        (errno.EACCES, 'permission denied'),
        (errno.ENOTDIR, 'a part of the path is a file'),
        (errno.EMFILE, 'too many open files: raise the limit'),
        (errno.ENOMEM, 'out of memory'),
        (errno.EIO, 'the storage does not answer'),
        (errno.ESTALE, 'the network file system has lost the file'),
    ],
)
def test_what_a_machine_runs_out_of(number, words):
    reason = os.strerror(number)
    for path in ('/data/epoch_1.pth', b'/data/epoch_1.pth'):
        sentence = explain(OSError(number, reason, path))
        assert sentence.startswith(f'/data/epoch_1.pth: {words}')
        assert sentence.endswith(AFTER)
    # Libraries put it into errors of their own.
    assert words in explain(RuntimeError(f'shm: {reason} ({number})'))

    def load():
        try:
            raise OSError(number, reason, 'a.jpg')
        except OSError as error:
            raise RuntimeError('in worker 3') from error

    assert explained(load).startswith(f'a.jpg: {words}')


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='has no full disk')
@pytest.mark.parametrize('buffering', [0, -1])
def test_a_full_disk_as_torch_reports_it(buffering):
    def save():
        with open('/dev/full', 'wb', buffering) as file:
            torch.save(dict(a=torch.zeros(100_000)), file)

    assert 'the disk is full' in explained(save)


def test_a_loader_that_cannot_open_files():
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = {int(number) for number in os.listdir('/proc/self/fd')}
    free = (number for number in range(limits[0]) if number not in used)
    *_, most = islice(free, 4)

    def load():
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, limits[1]))
        try:
            next(iter(DataLoader(Unreadable(), num_workers=4)))
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)

    assert 'too many open files: raise the limit' in explained(load)


class Dying(Dataset):
    """Ends its process, or never answers."""

    def __init__(self, how):
        self.how = how

    def __len__(self):
        return 2

    def __getitem__(self, index):
        if self.how == 'killed':
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == 'ended':
            os._exit(3)
        time.sleep(60)


@pytest.mark.parametrize(
    ('how', 'words'),
    [
        # Whichever of two places of PyTorch notices it first.
        ('killed', ('was ended by a signal (Killed)', 'has ended. If nobody')),
        ('ended', ('has ended. If nobody did that',)),
        ('stopped', ('gave a batch for 1 seconds: check the storage',)),
    ],
)
def test_a_worker_that_is_lost(monkeypatch, how, words):
    # PyTorch waits five seconds for the end of its workers.
    name = 'torch.utils.data._utils.MP_STATUS_CHECK_INTERVAL'
    monkeypatch.setattr(name, 0.2)
    patience = 1 if how == 'stopped' else 60
    loader = DataLoader(Dying(how), num_workers=1, timeout=patience)
    sentence = explained(lambda: next(iter(loader)))
    gc.collect()  # now, not in another test
    assert any(word in sentence for word in words)
    assert sentence.endswith(AFTER)


# Nothing listens at this port, the one of discard.
NOBODY = ('127.0.0.1', 9)


def read_from_a_dead_worker():
    ours, theirs = Pipe()
    theirs.close()
    ours.recv()


@pytest.mark.parametrize(
    'work', [read_from_a_dead_worker, lambda: Client(NOBODY)]
)
def test_a_worker_that_is_lost_while_it_passes_a_batch(work):
    sentence = explained(work)
    assert sentence.startswith('A worker of the loader ended while')
    assert sentence.endswith(AFTER)
    assert explain(EOFError('Ran out of input')) is None


def hang_up():
    """As requests and urllib do if the other side ends the connection."""
    try:
        raise RemoteDisconnected('Remote end closed connection')
    except RemoteDisconnected as error:
        raise OSError('Connection aborted.') from error


def find_no_host():
    raise gaierror(EAI_NONAME, 'Name or service not known')


@pytest.mark.parametrize(
    ('work', 'reason'),
    [
        (find_no_host, '[Errno -2] Name or service not known'),
        (
            lambda: urlopen('http://{}:{}/a.pth'.format(*NOBODY)),
            '[Errno 111] Connection refused',
        ),
        (
            lambda: create_connection(NOBODY),
            '[Errno 111] Connection refused',
        ),
        (hang_up, 'Remote end closed connection'),
    ],
)
def test_a_failed_download_is_not_a_lost_worker(work, reason):
    words = explained(work)
    assert words.startswith(
        f'A download or another connection has failed ({reason})'
    )
    assert 'put its path into the config' in words


def use_wandb():
    with patch.dict(sys.modules, wandb=None):  # it cannot be imported
        # It first makes its folder, if there is none.
        WandbVisBackend('.').experiment  # noqa: B018


@pytest.mark.parametrize(
    ('work', 'words'),
    [
        (
            lambda: torch.nn.BatchNorm1d(3)(torch.ones(1, 3)),
            'at least 2 images per batch',
        ),
        (
            use_wandb,
            'uses wandb, which is not installed: run `pip install wandb`',
        ),
    ],
)
def test_errors_of_libraries(work, words):
    assert words in explained(work)


CONNECTION = 'connection to another process of the run is lost'


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        (
            'DataLoader worker (pid 7) is killed by signal: Killed. ',
            'worker of the loader was ended by a signal (Killed)',
        ),
        (
            'DataLoader worker (pid 7) is killed by signal: Bus error. It is '
            "possible that dataloader's workers are out of shared memory.",
            'The shared memory (/dev/shm) is too small',
        ),
        (
            'Caught RuntimeError in DataLoader worker process 0. unable to '
            'open shared memory object </torch_7_9_1> in read-write mode: '
            'Too many open files (24)',
            'ulimit -n',
        ),
        (
            '[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection '
            'closed by peer [127.0.0.1]:43911',
            CONNECTION,
        ),
        (
            '[/pytorch/third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:'
            '81] Timed out waiting 1800000ms for recv operation to complete',
            CONNECTION,
        ),
        ('Connection reset by peer', CONNECTION),
        ('NCCL error ..., ncclRemoteError: A call failed', CONNECTION),
        # The first process has ended before the others have joined it.
        (
            'Failed to recv, got 0 bytes. Connection was likely closed. Did '
            'the remote server shutdown or crash?',
            CONNECTION,
        ),
        (
            '[1] is setting up NCCL communicator and retrieving ncclUniqueId '
            'from [0] via c10d key-value store by key 0, but got error: wait '
            'timeout after 600000ms',
            CONNECTION,
        ),
        (
            'The client socket has timed out after 600000ms while trying to '
            'connect to (node0, 29500).',
            CONNECTION,
        ),
        (
            'CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a '
            'total capacity of 79.11 GiB of which 1.00 GiB is free.',
            'The GPU has too little memory: lower the batch size',
        ),
        ('CUDA error: out of memory\nCUDA kernel', 'nvidia-smi'),
        (
            'InvalidCxxCompiler: No working C++ compiler found in '
            "torch._inductor.config.cpp.cxx: (None, 'g++')",
            'compile_backbone=False',
        ),
        ('CppCompileError: C++ compile error', 'python3-dev'),
    ],
)
def test_messages_of_pytorch(text, words):
    sentence = explain(RuntimeError(text))
    assert words in sentence
    assert sentence.endswith(AFTER)
    assert explain(ValueError(text)) is None


@pytest.mark.parametrize(
    ('error', 'start'),
    [
        # Of mmcv and of MMEngine's data sets.
        (
            AssertionError('failed to load image: a.jpg'),
            'a.jpg cannot be read as an image',
        ),
        (  # from a worker, whose message has the traceback
            AssertionError(
                "    f'failed to load image: {filename}'\n"
                'AssertionError: failed to load image: b.jpg\n'
            ),
            'b.jpg cannot be read as an image: replace it',
        ),
        (
            AssertionError("Input height (128) doesn't match model (224)."),
            'The network takes images of 224 pixels, and got some of 128',
        ),
        (
            TypeError(
                'hook should be an instance of Hook or dict, but got type'
            ),
            'custom_hooks has type, which is no dict',
        ),
        (
            ValueError("cannot find context for 'sponn'"),
            'env_cfg.mp_cfg.mp_start_method=sponn is unknown',
        ),
        (
            AssertionError(
                '`max_epochs` should be a integer number, but get 0.5.'
            ),
            'train_cfg.max_epochs=0.5 must be a whole number',
        ),
        (
            ValueError(
                'end should be larger than begin, but got begin=4, end=4'
            ),
            'A part of param_scheduler begins at 4 and ends at 4, but must',
        ),
        (
            AssertionError(
                '`mean` should have 1 or 3 values, to be compatible with RGB '
                'or gray image, but got 2 values'
            ),
            'model.data_preprocessor.mean has 2 values',
        ),
        (
            ValueError(
                'batch_size should be a positive integer value, but got '
                'batch_size=0'
            ),
            'A loader of the config has batch_size=0',
        ),
        (
            ValueError('need at least one array to concatenate'),
            'A data set is empty: check data_root',
        ),
        (
            FileNotFoundError(
                'work/results_0 is not an shared directory for rank 8, please '
                'make sure work/results_0 is a shared directory for all ranks!'
            ),
            'work/results_0 does not have the results of process 8',
        ),
    ],
)
def test_other_messages(error, start):
    assert explain(error).startswith(start)


def test_exit_waits_for_nobody_and_threads_that_cannot_write_are_silent():
    code = (
        'import multiprocessing, signal, threading, time\n'
        'from pixcon_mm.errors import UserError, run_tool\n'
        'def fail(error): raise error\n'
        'def wait():\n'
        '    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n'
        '    time.sleep(600)\n'
        'def main():\n'
        '    for error in (OSError(28, "full"), ValueError("a bug")):\n'
        '        thread = threading.Thread(target=fail, args=(error,))\n'
        '        thread.start()\n'
        '        thread.join()\n'
        '    multiprocessing.Process(target=wait, daemon=True).start()\n'
        '    time.sleep(0.3)\n'
        '    raise UserError("No images.")\n'
        'run_tool(main)\n'
    )
    ended = run(sys.executable, '-c', code, PIXCON_MM_TRACEBACK='')
    assert ended.returncode == 1
    assert ended.stderr.endswith('ValueError: a bug\nerror: No images.\n')
    assert 'full' not in ended.stderr


def test_a_tool_of_another_clone_is_refused(tmp_path):
    """The installed clone's code would run in its place."""
    tool = tmp_path / 'clone/tools/plot_curve.py'
    tool.parent.mkdir(parents=True)
    shutil.copy(ROOT / 'tools/plot_curve.py', tool)
    done = run(sys.executable, tool, '--help', PYTHONPATH=str(ROOT))
    assert done.returncode == 0  # nothing else is there
    (tmp_path / 'clone/pixcon_mm').mkdir()
    (tmp_path / 'clone/pixcon_mm/errors.py').touch()
    done = run(sys.executable, tool, '--help', PYTHONPATH=str(ROOT))
    assert done.returncode == 1
    assert f'PYTHONPATH={tmp_path}/clone, or run' in done.stderr
    link = tmp_path / 'link'  # to this clone
    link.symlink_to(ROOT)
    tool = link / 'tools/plot_curve.py'
    done = run(sys.executable, tool, '--help', PYTHONPATH=str(ROOT))
    assert done.returncode == 0


def test_windows_larger_than_a_map_of_swin():
    from mmpretrain.models.utils import ShiftWindowMSA

    layer = ShiftWindowMSA(embed_dims=4, num_heads=1, window_size=7)
    with pytest.raises(AssertionError) as caught:
        layer(torch.zeros(1, 16, 4), (4, 4))
    sentence = explain(caught.value)
    assert 'has (4, 4) cells' in sentence
    assert 'windows of 7 x 7' in sentence
