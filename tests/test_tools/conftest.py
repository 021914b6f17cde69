"""Shared by the tests of the tools."""

import pytest

from pixcon_mm.engine import PixConRunner
from pixcon_mm.errors import run_tool
from tests import test_transfer, toy


@pytest.fixture
def config(tmp_path):
    """Return the toy recipe."""
    return toy.write_config(tmp_path)


@pytest.fixture
def call(monkeypatch, capsys):
    """Run a tool's main here; returns its status, output and errors."""
    monkeypatch.delenv('PIXCON_MM_TRACEBACK', raising=False)

    def _call(main, *words):
        status = 0
        try:
            run_tool(lambda: main([str(word) for word in words]))
        except SystemExit as end:
            status = end.code
        return status, *capsys.readouterr()

    return _call


@pytest.fixture(scope='package')
def trained(tmp_path_factory):
    """A segmentor's config and checkpoint, and its metrics."""
    folder = tmp_path_factory.mktemp('trained')
    with toy.framework_state():
        cfg = test_transfer.fcn(folder, 'none')
        cfg.train_cfg.val_interval = 10
        cfg.default_hooks.checkpoint.interval = 2
        runner = PixConRunner.from_cfg(cfg)
        runner.train()
        expected = runner.test()
    cfg.dump(folder / 'fcn.py')
    return folder / 'fcn.py', folder / 'work/iter_2.pth', expected
