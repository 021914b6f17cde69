#!/usr/bin/env python
"""Write a backbone for another library: pixcon_mm/tools/export_backbone.py."""

from pixcon_mm.errors import run_tool
from pixcon_mm.tools.export_backbone import main

if __name__ == '__main__':
    run_tool(main)
