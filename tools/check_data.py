#!/usr/bin/env python
"""Check the labels of a config's data: pixcon_mm/tools/check_data.py."""

from pixcon_mm.errors import run_tool
from pixcon_mm.tools.check_data import main

if __name__ == '__main__':
    run_tool(main)
