"""Shared by the tests of the tools."""

import pytest

from pixcon_mm.errors import run_tool


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
