"""Workers leave signals to the training, and nobody outlives it."""

import multiprocessing
import os
import signal
import threading
import time
from multiprocessing.connection import Connection

import pytest
from torch.utils.data import DataLoader, Dataset
from torch.utils.data import _utils as torch_loading
from torch.utils.data._utils import signal_handling

from pixcon_mm import processes
from pixcon_mm.engine.runner import PixConRunner
from pixcon_mm.machine_errors import explain_machine
from pixcon_mm.processes import (
    SIGNALS,
    StoppedWorkerWatch,
    WorkerStart,
    die_with_parent,
    kill_workers,
    state_of,
)
from tests import toy
from tests.commands import wait_until

FORK = multiprocessing.get_context('fork')


@pytest.fixture(autouse=True)
def _handlers(monkeypatch):
    """kill_workers() also forgets PyTorch's handler."""
    # PyTorch sets it once a process, and another test may have reset it.
    monkeypatch.setattr(signal_handling, '_SIGCHLD_handler_set', False)
    monkeypatch.setattr(StoppedWorkerWatch, 'killed', set())
    signal_handling._set_SIGCHLD_handler()
    before = signal.getsignal(signal.SIGCHLD)
    with toy.framework_state():
        yield
        # If a test has failed, its worker could raise an error in a later one.
        kill_workers()
        for worker in multiprocessing.active_children():
            worker.join()
    signal.signal(signal.SIGCHLD, before)


def is_running(pid):
    return state_of(pid) not in ('', 'Z', 'X')


def parent(pipe):
    """Starts a child that waits, and says its number."""
    child = os.fork()
    if child == 0:
        die_with_parent()
        pipe.send(os.getpid())
        time.sleep(60)
    time.sleep(60)


def test_a_killed_parent_leaves_nobody():
    ours, theirs = multiprocessing.Pipe()
    process = FORK.Process(target=parent, args=(theirs,))
    process.start()
    child = ours.recv()
    assert is_running(child)
    process.kill()
    process.join()
    try:
        wait_until(lambda: not is_running(child))
    finally:
        if is_running(child):
            os.kill(child, signal.SIGKILL)


class Numbers(Dataset):
    """Numbers of the processes that load."""

    def __len__(self):
        return 8

    def __getitem__(self, index):
        return os.getpid()


def test_workers_leave_signals_to_the_training(tmp_path):
    def note(number):
        (tmp_path / f'{number} began').touch()

    start = WorkerStart(note, 1)
    loader = DataLoader(Numbers(), num_workers=1, worker_init_fn=start)
    batches = iter(loader)
    worker = next(batches).item()
    # The loader's own start is not forgotten: it seeds them.
    assert (tmp_path / '0 began').exists()
    for number in SIGNALS:
        os.kill(worker, number)
    assert [batch.item() for batch in batches] == [worker] * 7


def test_loaders_of_a_runner_have_such_workers():
    loader = PixConRunner.build_dataloader(
        dict(
            batch_size=1,
            num_workers=1,
            sampler=dict(type='DefaultSampler', shuffle=False),
            dataset=Numbers(),
        ),
        seed=3,
    )
    assert isinstance(loader.worker_init_fn, WorkerStart)
    # MMEngine's, which seeds them, still runs.
    assert loader.worker_init_fn.init_fn.keywords['seed'] == 3


def test_stopped_workers_are_killed_too():
    loader = DataLoader(
        Numbers(), num_workers=2, worker_init_fn=WorkerStart(None, 2)
    )
    batches = iter(loader)
    workers = {int(next(batches)) for _ in range(2)}
    assert len(workers) == 2
    os.kill(min(workers), signal.SIGSTOP)
    kill_workers()
    wait_until(lambda: not any(map(is_running, workers)))


class Half(Numbers):
    """The worker is stopped when it has passed half of the second batch."""

    def __init__(self):
        self.is_wanted = FORK.Event()

    def __getitem__(self, index):
        def send(connection, message):
            os.write(connection.fileno(), message[: len(message) // 2])
            os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(60)  # Another thread may be the first to stop.

        if index == 1:
            self.is_wanted.wait()
            Connection._send = send
        return super().__getitem__(index)


@pytest.fixture
def watch(monkeypatch):
    """Return a watch that is not shared, with short pauses."""
    monkeypatch.setattr(StoppedWorkerWatch, 'PAUSE', 0.1)
    return StoppedWorkerWatch()


def start_worker(dataset, watch=None, patience=None):
    """Return a loader's iterator, and the number of its only worker."""
    start = WorkerStart(None, 1)
    if watch:
        watch.add(start, patience)
    batches = iter(
        DataLoader(
            dataset, batch_size=None, num_workers=1, worker_init_fn=start
        )
    )
    return batches, next(batches)


def test_a_worker_stopped_while_it_passes_a_batch_is_killed(watch):
    def fail(*_):
        raise TimeoutError('the loader still waits')

    def load():
        dataset.is_wanted.set()
        next(batches)

    dataset = Half()
    batches, worker = start_worker(dataset, watch, 0.5)
    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(20)
    try:
        with pytest.raises(RuntimeError, match=str(worker)) as error:
            load()
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    assert not isinstance(error.value.__cause__, TimeoutError)
    assert 'SIGSTOP' in explain_machine(error.value)


def stop_within_a_batch():
    """Stop, as after a signal, a training on a GPU.

    In a process of its own, where the stand-in of toy.framework_state can be
    replaced by the real module.
    """
    processes.torch_loading = torch_loading
    dataset = Half()
    batches, worker = start_worker(dataset)
    # PyTorch's own thread, which pins memory, needs a GPU.
    thread = threading.Thread(
        target=batches._worker_result_queue.get, daemon=True
    )
    thread.start()
    batches._pin_memory_thread = thread
    batches._pin_memory_thread_done_event = threading.Event()
    dataset.is_wanted.set()
    wait_until(lambda: state_of(worker) == 'T')
    kill_workers()


def test_the_end_does_not_wait_for_the_rest_of_a_batch():
    training = FORK.Process(target=stop_within_a_batch)
    training.start()
    training.join(30)
    try:
        assert training.exitcode == 0
    finally:
        training.kill()


def test_each_loader_has_its_own_patience(watch):
    loaders = [
        start_worker(Numbers(), watch, patience) for patience in (0.5, 60)
    ]
    first, second = (worker for _, worker in loaders)
    # PyTorch's handler would raise when a worker dies.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for worker in (first, second):
        os.kill(worker, signal.SIGSTOP)
    wait_until(lambda: not is_running(first))
    time.sleep(0.5)
    assert state_of(second) == 'T'
    assert watch.killed == {first}
    os.kill(second, signal.SIGKILL)
