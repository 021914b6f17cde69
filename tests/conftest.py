"""Shared by all tests."""

import gc
import logging
import os

import numpy as np
import pytest
import torch
from hypothesis import settings
from mmengine.config import config
from mmengine.logging import MMLogger
from mmengine.registry import MODELS, init_default_scope
from yapf.yapflib import yapf_api

import pixcon_mm  # noqa: F401, before frameworks that look for mmcv's operators
from tests import toy

# The same examples in every run; a slow machine is not a failure.
settings.register_profile('repeatable', derandomize=True, deadline=None)
settings.load_profile('repeatable')
# Layers as small as those here only wait for a second thread.
torch.set_num_threads(1)


def pytest_collection_modifyitems(items):
    """Skip what needs a GPU where there is none, though it was asked for."""
    if not torch.cuda.is_available():
        for item in items:
            if item.get_closest_marker('gpu'):
                item.add_marker(pytest.mark.skip('needs a CUDA device'))


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


def seed():
    torch.manual_seed(0)
    np.random.seed(0)


@pytest.fixture(autouse=True, scope='module')
def _seeded_module():
    """Seed what the tests of a file share, whichever file came before."""
    seed()


@pytest.fixture(autouse=True)
def _seeded():
    seed()


@pytest.fixture(autouse=True)
def _framework_state():
    with toy.framework_state():
        yield


@pytest.fixture
def log():
    """Records of the current logger, which writes nothing elsewhere."""
    records: list[logging.LogRecord] = []
    handler = logging.Handler()
    handler.emit = records.append
    logger = MMLogger.get_current_instance()
    logger.handlers, logger.level = [handler], logging.INFO
    return records


@pytest.fixture(autouse=True, scope='session')
def _unformatted_configs():
    """MMEngine formats a config six times a run; yapf takes seconds each."""

    def leave(text, **options):
        return text, True

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(yapf_api, 'FormatCode', leave)
        # MMEngine 0.10.7 has a name of its own for it.
        if hasattr(config, 'FormatCode'):
            patch.setattr(config, 'FormatCode', leave)
        yield


def _write_model(make, framework, folder, classes):
    """Write a config, its data, and a file of random weights."""
    from pixcon_mm.cli import import_framework

    import_framework(framework)
    seed()
    with toy.framework_state():
        cfg = make(folder, 'none')
        init_default_scope(framework)
        model = MODELS.build(cfg.model)
    cfg.dump(folder / 'config.py')
    names = [f'class{i}' for i in range(classes)]
    meta = dict(classes=names, palette=[[i, i, i] for i in range(classes)])
    content = dict(state_dict=model.state_dict(), meta=dict(dataset_meta=meta))
    torch.save(content, folder / 'model.pth')
    return folder / 'config.py', folder / 'model.pth'


@pytest.fixture(scope='session')
def detector(tmp_path_factory):
    """A detector's config and a checkpoint; it finds a lot, all wrong."""
    from tests.test_transfer import mask_rcnn_fpn

    folder = tmp_path_factory.mktemp('detector')
    return _write_model(mask_rcnn_fpn, 'mmdet', folder, 80)


@pytest.fixture(scope='session')
def segmentor(tmp_path_factory):
    """A segmentor's config and a checkpoint, untrained."""
    from tests.test_transfer import fcn

    folder = tmp_path_factory.mktemp('segmentor')
    return _write_model(fcn, 'mmseg', folder, 150)
