"""What docs/speed.md calculates and tells to type is so."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from benchmarks.train import hours
from tests import toy

ROOT = Path(__file__).resolve().parents[1]
PAGE = (ROOT / 'docs/speed.md').read_text()
COMMANDS = [
    shlex.split(line, comments=True)
    for block in re.findall(r'```bash\n(.*?)```', PAGE, flags=re.S)
    for line in block.splitlines()
]


@pytest.fixture(scope='module')
def example():
    """The page's Python, run as it stands."""
    (code,) = re.findall(r'```python\n(.*?)```', PAGE, flags=re.S)
    names = {}
    with pytest.MonkeyPatch.context() as patch, toy.framework_state():
        patch.chdir(ROOT)
        exec(code, names)
    return names


def test_scaling_table_is_what_the_code_gives(example):
    row = r'^\| (\d+), (one|eight) machines? \| ([\d,]+) \| (\d+) \| (\S+) \|'
    rows = re.findall(row, PAGE, flags=re.M)
    assert len(rows) == 5
    for gpus, machines, total, batch, efficiency in rows:
        gpus, batch = int(gpus), int(batch)
        assert gpus * batch == int(total.replace(',', ''))
        links = (200, 20) if machines == 'one' else (25, 50)
        value = example['efficiency'](batch, gpus, *links)
        assert f'{value:.2f}' == efficiency


def test_hours_are_those_of_the_tool():
    coco, plus = re.search(r'([\d,]+) / r and ([\d,]+) / r', PAGE).groups()
    expected = hours(1.0)
    assert round(expected['COCO']) == int(coco.replace(',', ''))
    assert round(expected['COCO+']) == int(plus.replace(',', ''))


@pytest.mark.parametrize('command', COMMANDS, ids=' '.join)
def test_commands_are_understood(command, monkeypatch):
    program, tool, *argv = command
    assert program == 'python'
    spec = importlib.util.spec_from_file_location('docs_tool', ROOT / tool)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.parse_args(argv)


def test_links_lead_somewhere():
    links = re.findall(r'\]\((?!https?:)([^)]+)\)', PAGE)
    assert len(links) >= 2
    for link in links:
        assert (ROOT / 'docs' / link).exists(), link
