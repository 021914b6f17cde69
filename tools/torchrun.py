"""torchrun for tools/launch.sh: passes on signals, reports no error twice."""

import contextlib
import logging
import os
import signal
import sys
from pathlib import Path

STOPPED = 75  # status of a run that a signal has stopped, with a checkpoint
SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
# An error, a wrong usage: the process has said what there is to say.
SAID = (1, 2)


def handle(handler) -> None:
    """Set what happens on the signals that stop a run."""
    for number in SIGNALS:
        signal.signal(number, handler)


if __name__ == '__main__':
    # Nothing runs yet. Importing PyTorch takes seconds.
    handle(lambda *_: os._exit(STOPPED))

from torch.distributed.elastic.multiprocessing.api import (  # noqa: E402
    SignalException,
)
from torch.distributed.elastic.multiprocessing.errors import (  # noqa: E402
    ChildFailedError,
)
from torch.distributed.run import main as torchrun  # noqa: E402

passed_on: list[int] = []


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
    handle(pass_on)
    # The signals that are left to torchrun. Versions that do not read this
    # take SIGTERM and SIGINT as well.
    os.environ.setdefault('PET_SIGNALS_TO_HANDLE', 'SIGHUP,SIGQUIT')
    name = 'torch.distributed.elastic.multiprocessing.api'
    logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        torchrun()
    except ChildFailedError as error:
        codes = {rank: f.exitcode for rank, f in error.failures.items()}
        said = [code for code in codes.values() if code in SAID]
        if not said and (STOPPED in codes.values() or passed_on):
            sys.exit(STOPPED)
        # Ranks may have ended without a word: then the report stays.
        if not said:
            raise
        sys.exit(said[0])
    except SignalException:
        sys.exit(STOPPED)


if __name__ == '__main__':
    main()
