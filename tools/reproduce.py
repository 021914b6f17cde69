#!/usr/bin/env python
"""Run a plan and show its tables: see reproduction/cli.py."""

from reproduction.cli import main

if __name__ == '__main__':
    main()
