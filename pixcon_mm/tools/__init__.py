"""Programs, for instance ``python -m pixcon_mm.tools.train CONFIG``.

The scripts of the same names in the repository's ``tools/`` run these.
"""
