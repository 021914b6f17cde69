"""Processes that end when they should, and not before."""

import atexit
import ctypes
import multiprocessing
import os
import signal
from collections.abc import Callable

PR_SET_PDEATHSIG = 1  # of Linux's prctl
# What stops a run (engine/stop_signals.py).
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
    """

    def __init__(self, init_fn: Callable[[int], None] | None):
        self.init_fn = init_fn
        # Python would ask workers to end with the signal that they ignore,
        # and wait.
        atexit.register(kill_workers)

    def __call__(self, worker_id: int) -> None:
        """Run in the worker, before its first sample."""
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
