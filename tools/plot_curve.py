#!/usr/bin/env python
"""Draw loss curves: pixcon_mm/tools/plot_curve.py."""

from pixcon_mm.errors import run_tool
from pixcon_mm.tools.plot_curve import main

if __name__ == '__main__':
    run_tool(main)
