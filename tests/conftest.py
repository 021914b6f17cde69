"""Shared by all tests."""

import pytest
import torch
from yapf.yapflib import yapf_api


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _unformatted_configs(monkeypatch):
    """MMEngine formats a config six times a run; yapf takes seconds each."""
    monkeypatch.setattr(
        yapf_api, 'FormatCode', lambda text, **options: (text, True)
    )
