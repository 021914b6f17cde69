#!/usr/bin/env python
"""Pre-train or fine-tune as a config describes: pixcon_mm/tools/train.py."""

import os
import signal

if __name__ == '__main__':
    # Importing PyTorch takes seconds. A signal during this time ends the run
    # with status 75, which means that it can be started again; later,
    # StopSignalHook handles signals.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, lambda *_: os._exit(75))
    # Must be set before PyTorch starts its threads. If they spin while they
    # wait, they take CPU time from the loader's workers.
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')

    from pixcon_mm.errors import run_tool
    from pixcon_mm.tools.train import main

    run_tool(main)
