"""Control of when worker processes and training processes end."""

import atexit
import contextlib
import ctypes
import functools
import multiprocessing
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from weakref import WeakKeyDictionary

from torch.utils.data import _utils as torch_loading

PR_SET_PDEATHSIG = 1  # of Linux's prctl
# Signals that stop a run (engine/hooks/stop_signal_hook.py).
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
# Exit status of a tool that a signal has stopped and that can be started again
# (EX_TEMPFAIL of sysexits.h).
STOPPED = 75


def die_with_parent() -> None:
    """Let the kernel kill this process when its parent process dies.

    Otherwise, if a launcher is killed, its processes go on training and write
    into the same folder as the next run. On systems other than Linux, this
    function does nothing.
    """
    parent = os.getppid()
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    except (OSError, AttributeError):
        return
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)  # the parent has died already


class WorkerStart:
    """Initialisation of a loader's worker processes.

    Workers ignore signals that go to the whole group of processes, such as
    Ctrl-C or a signal of a cluster's scheduler. The training process handles
    these, and needs its workers until it has finished the iteration.

    Args:
        init_fn (Callable, optional): The loader's own ``worker_init_fn``.
        workers (int): Number of workers of the loader.
    """

    def __init__(self, init_fn: Callable[[int], None] | None, workers: int):
        self.init_fn = init_fn
        # The workers write their process ids into this shared memory.
        self.pids = multiprocessing.RawArray('q', workers)
        # At exit, Python would send SIGTERM to the workers, which ignore it,
        # and wait for them.
        atexit.register(kill_workers)

    def __call__(self, worker_id: int) -> None:
        """Run in the worker, before its first sample."""
        self.pids[worker_id] = os.getpid()
        die_with_parent()
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        if self.init_fn is not None:
            self.init_fn(worker_id)


def kill_workers() -> None:
    """Kill all workers of this process, including stopped ones.

    Call this when nothing is left to do but to end the process.
    """
    # PyTorch's handler of this signal raises an error if a worker dies.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    # A loader that is deleted joins its thread that pins memory, except at
    # Python's exit. If a worker has died while it passed a batch, that thread
    # waits for ever for the rest.
    torch_loading.python_exit_status = True
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()


class StoppedWorkerWatch:
    """Watch that kills workers which stay stopped (SIGSTOP).

    PyTorch waits for ever for a worker that is stopped while it passes a
    batch, but notices a worker that dies. The watch needs /proc of Linux.
    """

    PAUSE = 1.0  # seconds between two checks
    killed: set[int] = set()  # process ids

    def __init__(self):
        self.patience: WeakKeyDictionary[WorkerStart, float] = (
            WeakKeyDictionary()
        )
        self.stopped_for: Counter[int] = Counter()
        threading.Thread(target=self._run, daemon=True).start()

    def add(self, start: WorkerStart, patience: float) -> None:
        """Watch the workers of a loader as long as the loader exists.

        Args:
            start (WorkerStart): Initialisation of the loader's workers.
            patience (float): Seconds that a worker may stay stopped.
        """
        self.patience[start] = patience

    def _run(self) -> None:
        # This loop counts checks, not seconds: time in which the whole run was
        # suspended, as by Ctrl-Z, is not a worker's fault.
        while True:
            time.sleep(self.PAUSE)
            # Another process may have got the id of a worker that has ended,
            # so only children are checked.
            stopped = {pid for pid in children() if state_of(pid) == 'T'}
            self.stopped_for = Counter(
                {pid: self.stopped_for[pid] + 1 for pid in stopped}
            )
            for start, patience in list(self.patience.items()):
                for pid in stopped.intersection(start.pids):
                    if self.stopped_for[pid] * self.PAUSE >= patience:
                        self.killed.add(pid)
                        # The worker may have ended just now.
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)


@functools.cache
def worker_watch() -> StoppedWorkerWatch:
    """Return the watch that all loaders of this process share."""
    return StoppedWorkerWatch()


def children() -> list[int]:
    """Return the ids of child processes; none on a system without /proc."""
    found: list[int] = []
    for file in Path('/proc/self/task').glob('*/children'):
        try:
            found += map(int, file.read_text().split())
        except OSError:  # the thread has ended
            continue
    return found


def state_of(pid: int) -> str:
    """Return the letter of a process's state, as ``ps`` shows it.

    The result is empty if the process has ended.
    """
    try:
        stat = Path(f'/proc/{pid}/stat').read_text()
    except OSError:
        return ''
    return stat.rpartition(')')[2].split()[0]
