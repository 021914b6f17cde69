"""Frozen dense evaluation: how good features are as they are.

The protocols are in docs/evaluation.md. Importing this package imports none
of OpenMMLab's frameworks; its modules do so when they need one.
"""
