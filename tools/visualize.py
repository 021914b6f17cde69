#!/usr/bin/env python
"""Look at what a network sees: pixcon_mm/tools/visualize.py."""

import os

if __name__ == '__main__':
    # As in train.py: threads that wait must not spin.
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')

    from pixcon_mm.errors import run_tool
    from pixcon_mm.tools.visualize import main

    run_tool(main)
