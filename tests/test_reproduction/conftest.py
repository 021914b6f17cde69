"""Fixtures of plans."""

from tests.test_reproduction.plans import fake_tools

__all__ = ['fake_tools']
