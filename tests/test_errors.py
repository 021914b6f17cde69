"""A user's mistake becomes a sentence; a bug of ours stays a traceback."""

import errno
import gc
import os
import resource
import signal
import subprocess
import sys
import time
from itertools import islice

import pytest
import torch
from mmengine.registry import Registry
from torch.utils.data import DataLoader, Dataset

from pixcon_mm.errors import UserError, explain, run_tool

THINGS = Registry('thing', scope='test_errors', locations=['tests'])


@THINGS.register_module()
class Plain:
    def __init__(self, width, depth=1):
        if depth == 'wrong call':
            Plain(widht=width)


@THINGS.register_module()
class Child(Plain):
    def __init__(self, colour='red', **kwargs):
        super().__init__(**kwargs)


@THINGS.register_module()
class Holder:
    def __init__(self, inner):
        self.inner = THINGS.build(inner)


def said(work):
    """What is said of the error that ``work`` raises."""
    with pytest.raises(Exception, match='.') as caught:
        work()
    return explain(caught.value)


def build(**cfg):
    return said(lambda: THINGS.build(cfg))


def test_unknown_key():
    sentence = build(type='Plain', width=1, dept=2)
    assert sentence == (
        "The config gives Plain a key 'dept' that it does not take. "
        "Did you mean 'depth'?"
    )


def test_unknown_key_without_a_similar_one():
    assert build(type='Plain', width=1, zzz=2).endswith('does not take.')


def test_unknown_key_that_went_through_a_base_class():
    """The base class refuses it, but the config names the child."""
    assert build(type='Child', widt=1) == (
        "The config gives Child a key 'widt' that it does not take. "
        "Did you mean 'width'?"
    )
    assert "mean 'colour'?" in build(type='Child', width=1, color='blue')


def test_unknown_key_of_a_nested_object():
    sentence = build(type='Holder', inner=dict(type='Plain', wdth=1))
    assert 'gives Plain a key' in sentence
    assert "mean 'width'?" in sentence


@pytest.mark.parametrize('nested', [False, True])
def test_unknown_type(nested):
    cfg = dict(type='Plane', width=1)
    cfg = dict(type='Holder', inner=cfg) if nested else cfg
    assert build(**cfg) == (
        "The config has type='Plane', and no thing of that name is "
        "registered. Did you mean 'Plain'? If it is your own, name its "
        'module in custom_imports.'
    )


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
            raise KeyError('third') from None

    assert said(because) == 'No images.'
    assert said(while_handling) == 'No images.'


class Unreadable(Dataset):
    def __len__(self):
        return 2

    def __getitem__(self, index):
        raise UserError('Image a.png: cannot be read.')


@pytest.mark.parametrize('workers', [0, 1])
def test_mistake_found_by_a_loader_worker(workers):
    loader = DataLoader(Unreadable(), num_workers=workers)
    assert said(lambda: next(iter(loader))) == 'Image a.png: cannot be read.'


def needs(width):
    return width


@pytest.mark.parametrize(
    'work',
    [
        lambda: {}['lost'],
        lambda: needs(widht=1),
        lambda: Plain(widht=1),
        # The config is right; the constructor makes the mistake.
        lambda: THINGS.build(dict(type='Plain', width=1, depth='wrong call')),
        lambda: THINGS.build(dict(type='Plain')),
        lambda: 1 / 0,
    ],
)
def test_bugs_are_not_explained_away(work):
    assert said(work) is None


def test_tool_that_ends_with_a_mistake(capsys, monkeypatch):
    monkeypatch.delenv('PIXCON_MM_TRACEBACK', raising=False)
    monkeypatch.delenv('LOCAL_RANK', raising=False)

    def main():
        raise UserError('No images.')

    with pytest.raises(SystemExit) as stop:
        run_tool(main)
    assert stop.value.code == 1
    out, err = capsys.readouterr()
    assert (out, err) == ('', 'error: No images.\n')

    monkeypatch.setenv('PIXCON_MM_TRACEBACK', '1')
    with pytest.raises(UserError):
        run_tool(main)


def test_tool_that_ends_with_a_bug_shows_it(capsys):
    with pytest.raises(ZeroDivisionError):
        run_tool(lambda: 1 / 0)
    assert 'error:' not in capsys.readouterr().err


AFTER = 'Complete checkpoints are kept; continue with --resume.'


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
    error = OSError(number, os.strerror(number), '/data/epoch_1.pth')
    sentence = explain(error)
    assert sentence.startswith(f'/data/epoch_1.pth: {words}')
    assert sentence.endswith(AFTER)
    # Libraries put it into errors of their own.
    for text in (
        f'shm: {os.strerror(number)} ({number})',
        os.strerror(number),
    ):
        assert words in explain(RuntimeError(text))


def test_other_errors_of_the_system_are_no_mistakes():
    assert explain(FileNotFoundError(errno.ENOENT, 'No such file')) is None
    assert explain(ValueError('[Errno 28] in a text')) is None
    assert 'out of memory' in explain(MemoryError())


@pytest.mark.skipif(not os.path.exists('/dev/full'), reason='has no full disk')
def test_a_full_disk_as_torch_reports_it():
    def save(buffering):
        with open('/dev/full', 'wb', buffering) as file:
            torch.save(dict(a=torch.zeros(100_000)), file)

    for buffering in (0, -1):
        assert 'the disk is full' in said(lambda b=buffering: save(b))


def test_a_loader_that_cannot_open_files(tmp_path):
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

    assert 'too many open files: raise the limit' in said(load)


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
    loader = DataLoader(Dying(how), num_workers=1, timeout=1)
    sentence = said(lambda: next(iter(loader)))
    gc.collect()  # now, not in another test
    assert any(word in sentence for word in words)
    assert sentence.endswith(AFTER)


@pytest.mark.parametrize('error', [ConnectionResetError(104, 'x'), EOFError()])
def test_a_worker_that_is_lost_while_it_passes_a_batch(error):
    sentence = explain(error)
    assert sentence.startswith('A worker of the loader ended while')
    assert sentence.endswith(AFTER)
    assert explain(EOFError('Ran out of input')) is None


def test_a_worker_that_was_killed():
    text = 'DataLoader worker (pid 7) is killed by signal: Killed. '
    sentence = explain(RuntimeError(text))
    assert sentence.startswith('A worker of the loader was ended by a signal')
    assert '(Killed)' in sentence
    assert explain(RuntimeError('Worker (pid 7) is killed by signal')) is None


def test_small_shared_memory():
    text = (
        'DataLoader worker (pid 7) is killed by signal: Bus error. It is '
        "possible that dataloader's workers are out of shared memory. "
        'Please try to raise your shared memory limit.'
    )
    sentence = explain(RuntimeError(text))
    assert sentence.startswith('The shared memory (/dev/shm) is too small')
    assert '--shm-size' in sentence


@pytest.mark.parametrize(
    'text',
    [
        '[../third_party/gloo/gloo/transport/tcp/pair.cc:534] Connection '
        'closed by peer [127.0.0.1]:43911',
        '[/pytorch/third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:81] '
        'Timed out waiting 1800000ms for recv operation to complete',
        'Connection reset by peer',
        'NCCL error ..., ncclRemoteError: A call failed possibly due to a '
        'network error or a remote process exiting prematurely.',
    ],
)
def test_a_lost_process_of_the_run(text):
    sentence = explain(RuntimeError(text))
    assert 'connection to another process of the run is lost' in sentence
    assert explain(ValueError(text)) is None


def test_the_cause_is_found_behind_the_workers_traceback():
    def load():
        try:
            raise OSError(errno.EIO, 'Input/output error', 'a.jpg')
        except OSError as error:
            raise RuntimeError('in worker 3') from error

    assert said(load).startswith('a.jpg: the storage does not answer')


def test_exit_is_not_held_up():
    """By handlers of signals, or by workers that wait."""
    code = (
        'import multiprocessing, signal, sys, time\n'
        'from pixcon_mm.errors import UserError, run_tool\n'
        'def wait():\n'
        '    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n'
        '    time.sleep(60)\n'
        'def main():\n'
        '    signal.signal(signal.SIGTERM, lambda *_: None)\n'
        '    multiprocessing.Process(target=wait, daemon=True).start()\n'
        '    time.sleep(0.3)\n'
        '    raise UserError("No images.")\n'
        'run_tool(main)\n'
    )
    ended = subprocess.run(
        [sys.executable, '-c', code],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert (ended.returncode, ended.stderr) == (1, 'error: No images.\n')


def test_errors_leave_signals_to_the_system():
    def fail():
        raise UserError('No images.')

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGCHLD)
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        for number in numbers:
            signal.signal(number, lambda *_: None)
        with pytest.raises(SystemExit):
            run_tool(fail)
        for number in numbers:
            assert signal.getsignal(number) is signal.SIG_DFL
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_shared_memory_without_descriptors():
    text = (
        'Caught RuntimeError in DataLoader worker process 0. unable to open '
        'shared memory object </torch_7_9_1> in read-write mode: Too many '
        'open files (24)'
    )
    assert 'ulimit -n' in explain(RuntimeError(text))


def test_a_folder_that_went_away():
    error = FileNotFoundError(errno.ENOENT, 'gone', b'work_dirs/x/events')
    sentence = explain(error)
    assert sentence.startswith('work_dirs/x/events: there is no such file')
    assert explain(FileNotFoundError(errno.ENOENT, 'gone')) is None


def test_threads_that_could_not_write_say_nothing(capfd):
    code = (
        'import threading\n'
        'from pixcon_mm.errors import run_tool\n'
        'def fail(error): raise error\n'
        'def main():\n'
        '    for error in (OSError(28, "full"), ValueError("a bug")):\n'
        '        thread = threading.Thread(target=fail, args=(error,))\n'
        '        thread.start()\n'
        '        thread.join()\n'
        'run_tool(main)\n'
    )
    subprocess.run([sys.executable, '-c', code], check=True)
    error = capfd.readouterr().err
    assert 'a bug' in error
    assert 'full' not in error
