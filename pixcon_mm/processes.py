"""Processes that end when they should, and not before."""

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

PR_SET_PDEATHSIG = 1  # of Linux's prctl
# What stops a run (engine/hooks/stop_signal_hook.py).
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
# Exit status of a tool that a signal has stopped and that can be started again
# (EX_TEMPFAIL of sysexits.h).
STOPPED = 75


def die_with_parent() -> None:
    """Let the kernel kill this process when the one that started it dies.

    A launcher that is killed would otherwise leave its processes training in
    the same folder. On systems other than Linux nothing happens.
    """
    parent = os.getppid()
    try:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    except (OSError, AttributeError):
        return
    if os.getppid() != parent:
        os.kill(os.getpid(), signal.SIGKILL)  # it died in between


class WorkerStart:
    """Set up a worker process of a loader.

    A signal to the whole group of processes, a Ctrl-C or that of a cluster's
    scheduler, is for the training process to answer: it still needs its
    workers to finish the iteration.

    Args:
        init_fn (Callable, optional): The loader's own ``worker_init_fn``.
        workers (int): Workers of the loader.
    """

    def __init__(self, init_fn: Callable[[int], None] | None, workers: int):
        self.init_fn = init_fn
        # Their process numbers, in memory that they share with this process.
        self.pids = multiprocessing.RawArray('q', workers)
        # Python would ask workers to end with the signal that they ignore,
        # and wait.
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
    """Kill what is left of this process's workers, also stopped ones."""
    # PyTorch's handler would raise because a worker has died.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    for child in multiprocessing.active_children():
        if child.daemon:
            child.kill()


class StoppedWorkerWatch:
    """Kill workers that stay stopped (SIGSTOP).

    PyTorch waits without a limit for a worker that is stopped while it passes
    a batch. It does notice one that dies. Only Linux shows the states.
    """

    PAUSE = 1.0  # seconds between two checks
    killed: set[int] = set()  # process numbers

    def __init__(self):
        self.patience: WeakKeyDictionary[WorkerStart, float] = (
            WeakKeyDictionary()
        )
        self.stopped_for: Counter[int] = Counter()
        threading.Thread(target=self._run, daemon=True).start()

    def add(self, start: WorkerStart, patience: float) -> None:
        """Watch the workers of a loader as long as it lives.

        Args:
            start (WorkerStart): The loader's.
            patience (float): Seconds that a worker may stay stopped.
        """
        self.patience[start] = patience

    def _run(self) -> None:
        # Checks are counted, not seconds: when everything was suspended and
        # is resumed, as by Ctrl-Z and fg, no worker has stayed behind.
        while True:
            time.sleep(self.PAUSE)
            # The number of a worker that has ended may be another process's.
            stopped = {pid for pid in children() if state_of(pid) == 'T'}
            self.stopped_for = Counter(
                {pid: self.stopped_for[pid] + 1 for pid in stopped}
            )
            for start, patience in list(self.patience.items()):
                for pid in stopped.intersection(start.pids):
                    if self.stopped_for[pid] * self.PAUSE >= patience:
                        self.killed.add(pid)
                        # It may have ended just now.
                        with contextlib.suppress(ProcessLookupError):
                            os.kill(pid, signal.SIGKILL)


@functools.cache
def worker_watch() -> StoppedWorkerWatch:
    """Return the watch of all loaders of this process."""
    return StoppedWorkerWatch()


def children() -> list[int]:
    """Numbers of this process's child processes, where /proc shows them."""
    found: list[int] = []
    for file in Path('/proc/self/task').glob('*/children'):
        try:
            found += map(int, file.read_text().split())
        except OSError:  # the thread has ended
            continue
    return found


def state_of(pid: int) -> str:
    """Letter of a process's state, as ``ps`` shows it; empty if it is gone."""
    try:
        stat = Path(f'/proc/{pid}/stat').read_text()
    except OSError:
        return ''
    return stat.rpartition(')')[2].split()[0]
