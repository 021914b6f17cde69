"""Stop on a signal, with a checkpoint of the iteration that was reached."""

import contextlib
import os
import signal
import sys
import threading
import time
from typing import Any

import torch
import torch.distributed as dist
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from pixcon_mm.engine.network import check_names
from pixcon_mm.processes import SIGNALS, STOPPED

# A launcher passes on a Ctrl-C that the terminal has already sent to all:
# signals so close together are one request.
SAME_REQUEST = 2.0  # seconds


class StoppedBySignal(Exception):
    """End of a run that has saved its state because of a signal."""


class StopRequest:
    """Record of a signal that has asked the process to stop.

    Attributes:
        signal_name (str | None): The first signal; None if there was none.
    """

    # The objects that catch signals now.
    listening: set['StopRequest'] = set()

    def __init__(self):
        self.signal_name: str | None = None
        self._since, self._process = 0.0, 0
        self._before: dict[int, Any] = {}

    def listen(self) -> None:
        """Catch the signals from now on; in the main thread only."""
        self.signal_name, self._process = None, os.getpid()
        if threading.current_thread() is threading.main_thread():
            self.listening.add(self)
            self._before = {n: signal.getsignal(n) for n in SIGNALS}
            for number in SIGNALS:
                signal.signal(number, self._catch)

    def stop_listening(self) -> None:
        """Restore the previous signal handlers."""
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
        self.listening.discard(self)

    def _catch(self, number: int, frame: object) -> None:
        if os.getpid() != self._process:
            # The signal came to a child, just after the fork.
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        now, name = time.monotonic(), signal.Signals(number).name
        if self.signal_name is None:
            self.signal_name, self._since = name, now
            _say(f'{name}: saving at the end of the iteration.')
        elif now - self._since >= SAME_REQUEST:
            _say(f'{name} again: ending now, unsaved.')
            signal.signal(number, self._before[number])
            os.kill(os.getpid(), number)


def _leave_to_system() -> None:
    """Let signals end a process that was forked from a training.

    Some evaluations fork processes and end them with SIGTERM. A Python
    handler would not run while such a process waits for work.
    """
    if StopRequest.listening:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_DFL)


os.register_at_fork(after_in_child=_leave_to_system)


def _say(text: str) -> None:
    """Write a line to stderr, or nothing if the terminal is closed.

    This avoids print(), which is not safe in a signal handler.
    """
    with contextlib.suppress(OSError, ValueError):
        os.write(sys.stderr.fileno(), f'{text}\n'.encode())


@HOOKS.register_module()
class StopSignalHook(Hook):
    """Save and stop after SIGTERM, SIGINT (Ctrl-C) or SIGUSR1.

    The run saves at the end of its iteration and ends with status 75, the
    convention for "failed for now, try again". With several processes, one
    that gets the signal is enough: all stop at the same iteration. A
    validation is finished first. A second signal ends the process at once.

    Raises:
        StoppedBySignal: In all processes after the same iteration.
    """

    # After everything else in the iteration, such as its regular checkpoint.
    priority = 'LOWEST'

    def __init__(self):
        self.request = StopRequest()
        self._stopping = False
        self._group: dist.ProcessGroup | None = None
        self._flag: torch.Tensor | None = None
        self._exchange: dist.Work | None = None

    def before_train(self, runner: Runner) -> None:
        """Catch signals; make a process group that works without a GPU."""
        self.request.listen()
        if runner.world_size > 1:
            check_names()
            self._group = dist.new_group(backend='gloo')

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch=None, outputs=None
    ) -> None:
        """Stop if all processes know that one of them got a signal."""
        self._stopping = self._stopping or self._all_know()
        done = runner.iter + 1
        # Gradients that are being accumulated are not saved. After the last
        # iteration there is nothing left to stop.
        if (
            not self._stopping
            or done == runner.max_iters
            or not runner.optim_wrapper.should_update()
        ):
            return
        if runner.saved_iter != done:
            runner.save_checkpoint(
                runner.work_dir,
                f'iter_{done}.pth',
                meta=dict(epoch=runner.epoch, iter=done),
            )
        if self._group is not None:
            # The launcher ends the others as soon as one has ended.
            dist.barrier(self._group)
        raise StoppedBySignal(
            f'{self.request.signal_name or "A signal"}: saved after '
            f'iteration {done} of {runner.max_iters} in {runner.work_dir}. '
            'Continue with --resume.'
        )

    def after_train(self, runner: Runner) -> None:
        """Finish the last exchange."""
        if self._exchange is not None:
            self._exchange.wait()
            self._exchange = None

    def _all_know(self) -> bool:
        """Check if any process had a signal at the end of the last iteration.

        All processes get the same answer. The exchange runs in parallel to an
        iteration, so no process waits for it.
        """
        is_asked = self.request.signal_name is not None
        if self._group is None:
            return is_asked
        known = False
        if self._exchange is not None:
            self._exchange.wait()
            known = bool(self._flag.item())
        self._flag = torch.tensor([float(is_asked)])
        self._exchange = dist.all_reduce(
            self._flag, dist.ReduceOp.MAX, self._group, async_op=True
        )
        return known


def ignore_signals() -> None:
    """Ignore further signals until the process ends."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def exit_stopped(message: str) -> None:
    """End the process with the status for "start me again"."""
    if int(os.environ.get('RANK', 0)) == 0:
        with contextlib.suppress(OSError):  # a terminal that was closed
            print(message, file=sys.stderr, flush=True)
    sys.exit(STOPPED)
