"""The demo runs once at a time, and only when it is asked to."""

import os
import subprocess

import pytest

from pixcon_mm.errors import UserError
from reproduction.run_dir import RunDir
from tests.commands import load_tool


@pytest.fixture
def demo(tmp_path, monkeypatch):
    """Load the tool with a root of its own and nothing to run."""
    demo = load_tool('demo')
    monkeypatch.setattr(demo, 'ROOT', tmp_path)
    monkeypatch.setattr(demo, 'run_steps', lambda: None)
    return demo


def test_help_starts_nothing(demo, monkeypatch):
    monkeypatch.setattr(demo, 'run_steps', lambda: 1 / 0)
    with pytest.raises(SystemExit) as end:
        demo.main(['--help'])
    assert end.value.code == 0


def test_a_second_demo_is_refused_while_one_runs(demo):
    with (
        RunDir(demo.ROOT / demo.WORK_DIR).locked(),
        pytest.raises(UserError, match='already running'),
    ):
        demo.main([])
    demo.main([])


def test_a_tool_that_outlives_the_demo_keeps_its_lock(demo, monkeypatch):
    tools = []

    def start(*command, **options):
        options.pop('check')
        tools.append(subprocess.Popen(['cat'], stdin=pipe, **options))

    pipe, ours = os.pipe()
    monkeypatch.setattr(demo.subprocess, 'run', start)
    monkeypatch.setattr(demo, 'run_steps', lambda: demo.step('', 'tool'))
    demo.main([])
    os.close(pipe)
    folder = RunDir(demo.ROOT / demo.WORK_DIR)
    assert folder.is_running()
    tools[0].terminate()
    tools[0].wait()
    os.close(ours)
    assert not folder.is_running()
