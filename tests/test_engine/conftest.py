"""Fixtures of all tests of the engine."""

import pytest
import torch


@pytest.fixture(autouse=True, scope='module')
def _no_cuda():
    """Behave as on a machine without CUDA, in processes started here, too."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.cuda, 'is_available', lambda: False)
        patch.setenv('CUDA_VISIBLE_DEVICES', '')
        yield
