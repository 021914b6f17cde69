"""Command line tools, such as ``python -m pixcon_mm.tools.train CONFIG``.

The scripts with the same names in the repository's ``tools/`` run them.
"""
