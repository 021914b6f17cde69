#!/usr/bin/env python
"""Evaluate a detector or segmentor: pixcon_mm/tools/test.py."""

import os

if __name__ == '__main__':
    # As in train.py: threads must not spin while they wait.
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')

    from pixcon_mm.errors import run_tool
    from pixcon_mm.tools.test import main

    run_tool(main)
