#!/usr/bin/env python
"""Draw and save predictions for images: pixcon_mm/tools/predict.py."""

from pixcon_mm.errors import run_tool
from pixcon_mm.tools.predict import main

if __name__ == '__main__':
    run_tool(main)
