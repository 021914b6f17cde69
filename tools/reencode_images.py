#!/usr/bin/env python
"""Make smaller copies of images: pixcon_mm/tools/reencode_images.py."""

from pixcon_mm.errors import run_tool
from pixcon_mm.tools.reencode_images import main

if __name__ == '__main__':
    run_tool(main)
