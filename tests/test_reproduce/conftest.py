"""Fixtures of plans."""

from tests.test_reproduce.plans import fake_tools

__all__ = ['fake_tools']
