#!/usr/bin/env python
"""Evaluate a frozen backbone: pixcon_mm/tools/evaluate_dense.py."""

import os

if __name__ == '__main__':
    # As in train.py: threads must not spin while they wait.
    os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')

    from pixcon_mm.errors import run_tool
    from pixcon_mm.tools.evaluate_dense import main

    run_tool(main)
