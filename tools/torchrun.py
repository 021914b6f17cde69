"""Run torchrun for launch.sh: pass on signals, report no error twice."""

import contextlib
import logging
import os
import signal
import sys
from pathlib import Path

STOPPED = 75  # status of a run that a signal has stopped, with a checkpoint
# Statuses of an error and of a wrong usage, which the process has reported.
REPORTED = (1, 2)
passed_on: list[int] = []  # signals


def handle(handler) -> None:
    """Set a handler of the signals that stop a run."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, handler)


def pass_on(number: int, frame: object) -> None:
    """Send a signal to the processes that were started here.

    torchrun would end them itself, and kill those that need more than half
    a minute for their checkpoint.
    """
    passed_on.append(number)
    children = [
        int(child)
        for file in Path('/proc/self/task').glob('*/children')
        for child in file.read_text().split()
    ]
    if not children:
        sys.exit(STOPPED)
    for child in children:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)


def main() -> None:
    """Run torchrun with the arguments of this command."""
    # Importing PyTorch takes seconds, and nothing runs yet.
    handle(lambda *_: os._exit(STOPPED))
    from torch.distributed.elastic.multiprocessing import api, errors
    from torch.distributed.run import main as torchrun

    handle(pass_on)
    # The signals that are left to torchrun. Versions that do not read this
    # take SIGTERM and SIGINT as well.
    os.environ.setdefault('PET_SIGNALS_TO_HANDLE', 'SIGHUP,SIGQUIT')
    logging.getLogger(api.__name__).setLevel(logging.CRITICAL)
    try:
        torchrun()
    except errors.ChildFailedError as error:
        codes = [failure.exitcode for failure in error.failures.values()]
        reported = [code for code in codes if code in REPORTED]
        if not reported and (STOPPED in codes or passed_on):
            sys.exit(STOPPED)
        # Ranks may have ended without a message: then torchrun reports them.
        if not reported:
            raise
        sys.exit(reported[0])
    except api.SignalException:
        sys.exit(STOPPED)


if __name__ == '__main__':
    main()
