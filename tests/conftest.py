"""Shared by all tests."""

import gc
import os

import pytest
import torch
from hypothesis import settings
from yapf.yapflib import yapf_api

import pixcon_mm  # noqa: F401, before frameworks that look for mmcv's operators
from tests import toy

# The same examples in every run; a slow machine is no failure.
settings.register_profile('repeatable', derandomize=True, deadline=None)
settings.load_profile('repeatable')


@pytest.fixture(autouse=True, scope='module')
def _small_heap():
    """Keep what lives on, the frameworks above all, out of collections.

    Each full collection would walk through half a million of their objects,
    for a third of the time of a test that imports one or trains.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope='session')
def _own_cache(tmp_path_factory):
    """Leave the user's cache alone, in processes that tests start, too."""
    os.environ['PIXCON_MM_CACHE'] = str(tmp_path_factory.mktemp('cache'))


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _framework_state():
    with toy.framework_state():
        yield


@pytest.fixture(autouse=True)
def _unformatted_configs(monkeypatch):
    """MMEngine formats a config six times a run; yapf takes seconds each."""
    monkeypatch.setattr(
        yapf_api, 'FormatCode', lambda text, **options: (text, True)
    )
