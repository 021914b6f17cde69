"""The demo runs once at a time, ends with its tools, and says what is so."""

import subprocess

import pytest

from pixcon_mm.errors import UserError
from reproduction.published import RowKey
from reproduction.run_dir import RunDir
from reproduction.tables import Cell, Column, Row, Table
from tests.commands import load_tool

SLEEP = ('-c', 'import time; time.sleep(60)')


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
    start = lambda: tools.append(demo.start(*SLEEP))  # noqa: E731
    monkeypatch.setattr(demo, 'run_steps', start)
    demo.main([])
    folder = RunDir(demo.ROOT / demo.WORK_DIR)
    assert folder.is_running()
    tools[0].terminate()
    tools[0].wait()
    assert not folder.is_running()


def test_a_tool_that_fails_ends_the_demo_after_the_others(demo):
    tools = [demo.start('-c', f'raise SystemExit({n})') for n in (0, 3)]
    with pytest.raises(subprocess.CalledProcessError) as error:
        demo.finish(tools)
    assert error.value.returncode == 3


def test_an_interrupted_demo_stops_its_tools(demo, monkeypatch):
    def interrupt():
        raise KeyboardInterrupt

    monkeypatch.setattr(demo, 'REPORT', 0)
    tools = [demo.start(*SLEEP) for _ in range(2)]
    with pytest.raises(KeyboardInterrupt):
        demo.finish(tools, interrupt)
    assert all(tool.returncode for tool in tools)


def table(*columns):
    """Return a table of columns, each of scores of random and of PixCon."""
    names, rows = 'ABC'[: len(columns)], []
    for title, *found in zip(('Random', 'PixCon-SR'), *columns, strict=True):
        cells = {
            name: Cell(scores, wanted=2, seeds=[*range(len(scores))])
            for name, scores in zip(names, found, strict=True)
        }
        rows.append(Row(RowKey(title, '-', None), cells))
    columns = [Column(name, name, '', 'mIoU') for name in names]
    return Table('demo', 'Demo', columns, rows)


UP = ([20.0, 21.0], [30.0, 32.0])
DOWN = (UP[1], UP[0])
MIXED = ([20.0, 21.0], [22.0, 20.0])
CLOSE = ([20.0, 21.0], [20.4, 21.2])
HALF = ([20.0, 21.0], [30.0])


@pytest.mark.parametrize(
    ('columns', 'first', 'lines'),
    [
        (
            [UP],
            'helps in 1 of 1 measures',
            ['Higher with both seeds: A: mIoU (+10.5)'],
        ),
        (
            [UP, CLOSE, DOWN],
            'helps in 1 of 3 measures',
            [
                'Higher with both seeds: A: mIoU (+10.5)',
                'Lower with both seeds: C: mIoU (-10.5)',
                'No clear difference: B: mIoU (+0.3)',
            ],
        ),
        (
            [MIXED, HALF],
            'does not help in this run',
            [
                'No clear difference: A: mIoU (+0.5)',
                'Without a number: B: mIoU.',
            ],
        ),
    ],
)
def test_the_conclusion_follows_from_the_numbers(demo, columns, first, lines):
    shown = demo.conclude(table(*columns)).splitlines()
    assert first in shown[0]
    assert len(shown) == 1 + len(lines)
    for line, words in zip(shown[1:], lines, strict=True):
        assert line.strip().startswith(words)


def test_the_table_has_each_seed_and_the_differences(demo, capsys):
    demo.show(table(UP, HALF))
    shown = capsys.readouterr().out
    for words in ('20.0  21.0', '30.0  32.0', '+10.0 +11.0'):
        assert words in shown
    assert shown.count('+') == 2
