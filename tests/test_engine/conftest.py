"""Fixtures of all tests of the engine."""

import pytest
import torch


@pytest.fixture(autouse=True)
def _no_cuda(monkeypatch):
    """Behave as on a machine without CUDA."""
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
