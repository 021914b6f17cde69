"""Run torchrun for launch.sh: pass on signals, report errors only once."""

import contextlib
import logging
import os
import signal
import sys
from pathlib import Path

STOPPED = 75  # exit status of a run that a signal has stopped
# Exit statuses of processes that have printed an error or their usage.
REPORTED = (1, 2)
passed_on: list[int] = []  # signals that were passed on


def handle(handler) -> None:
    """Set the handler of the signals that stop a run."""
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, handler)


def pass_on(number: int, frame: object) -> None:
    """Send a signal to the child processes.

    torchrun's own handler would kill children that need more than half a
    minute to save their checkpoint.
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
    # Importing PyTorch takes seconds; a signal may end the process meanwhile.
    handle(lambda *_: os._exit(STOPPED))
    from torch.distributed.elastic.multiprocessing import api, errors
    from torch.distributed.run import main as torchrun

    handle(pass_on)
    # Signals that torchrun handles itself. Versions that do not read this
    # variable handle SIGTERM and SIGINT as well.
    os.environ.setdefault('PET_SIGNALS_TO_HANDLE', 'SIGHUP,SIGQUIT')
    logging.getLogger(api.__name__).setLevel(logging.CRITICAL)
    try:
        torchrun()
    except errors.ChildFailedError as error:
        codes = [failure.exitcode for failure in error.failures.values()]
        reported = [code for code in codes if code in REPORTED]
        if not reported and (STOPPED in codes or passed_on):
            sys.exit(STOPPED)
        # If the processes ended without a message, torchrun reports them.
        if not reported:
            raise
        sys.exit(reported[0])
    except api.SignalException:
        sys.exit(STOPPED)


if __name__ == '__main__':
    main()
