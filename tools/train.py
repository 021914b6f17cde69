#!/usr/bin/env python
"""Train whatever a config describes: pixcon_mm/tools/train.py."""

import os
import signal

if __name__ == '__main__':
    # Importing PyTorch takes seconds. Until the run has something to save, a
    # signal ends it with the status of one that can be started again
    # (StopSignalHook).
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(number, lambda *_: os._exit(75))
    # PyTorch reads this when it starts its threads: if they spin while they
    # wait, they take the cores from the loader's workers.
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')

    from pixcon_mm.errors import run_tool
    from pixcon_mm.tools.train import main

    run_tool(main)
