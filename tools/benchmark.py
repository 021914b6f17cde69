#!/usr/bin/env python
"""Measure the speed and memory of training: benchmarks/main.py."""

from benchmarks.main import main
from pixcon_mm.errors import run_tool

if __name__ == '__main__':
    run_tool(main)
