"""Test the command for the first GPU: failures, results and the report."""

import argparse
import json
import sys
from pathlib import Path

import pytest

from benchmarks import gpu as module
from benchmarks import gpu_parts, gpu_report
from benchmarks.gpu_parts import TESTS, Step, read_tests
from benchmarks.gpu_report import PLACE, TABLES
from benchmarks.main import main
from pixcon_mm.errors import UserError
from tests import ROOT


def python(name, code, limit=60, collect=None):
    return Step(name, limit, [sys.executable, '-c', code], collect)


@pytest.fixture
def run(tmp_path, monkeypatch):

    def _run(*steps, options=()):
        parts = dict(module.PARTS, b=lambda args, scratch: list(steps))
        monkeypatch.setattr(module, 'PARTS', parts)
        monkeypatch.setattr(module, 'PATIENCE', 1)
        words = ['gpu', '--small', '--out', str(tmp_path), '--part', 'b']
        main([*words, *options])

    return _run


def steps_of(folder, part='b'):
    return json.loads((folder / f'{part}.json').read_text())['steps']


def test_goes_on_after_failures_and_shows_them(run, tmp_path):
    with pytest.raises(UserError, match='3 steps .* b breaks, b hangs, b '):
        run(
            python('breaks', 'print("so far"); 1 / 0'),
            python('hangs', 'import time; print("here"); time.sleep(60)', 5),
            python('empty', '', collect=lambda: json.loads('')),
            python('works', '', collect=lambda: dict(settings={})),
        )
    steps = steps_of(tmp_path)
    assert [s['status'].split()[0] for s in steps] == [
        *('failed', 'stopped', 'failed', 'ok')
    ]
    assert steps[0]['tail'][0] == 'so far'
    assert steps[0]['tail'][-1].startswith('ZeroDivisionError')
    assert steps[1]['tail'] == ['here']
    assert steps[1]['seconds'] < 20
    assert steps[2]['error'].startswith('no figures')
    assert 'ZeroDivisionError' in (tmp_path / 'report.md').read_text()


def test_writes_after_every_step(run, tmp_path):
    copy = f'import shutil; shutil.copy({str(tmp_path / "b.json")!r}, '
    run(
        python('first', ''),
        python('second', f'{copy}{str(tmp_path / "then.json")!r})'),
    )
    then, names = json.loads((tmp_path / 'then.json').read_text()), []
    for steps in (then['steps'], steps_of(tmp_path)):
        names.append([step['name'] for step in steps])
    assert names == [['first'], ['first', 'second']]


def test_resumes_with_what_is_missing(run, tmp_path):
    log, copy = tmp_path / 'log', f'{tmp_path}/then.json'
    code = f'open({str(log)!r}, "a").write({{!r}})'
    keep = (
        f'import shutil; shutil.copy({str(tmp_path / "b.json")!r}, {copy!r})'
    )
    steps = [
        python('a', code.format('a')),
        python('b', f'{code.format("b")}; 1 / 0'),
        python('c', code.format('c')),
        python('d', f'{code.format("d")}; {keep}; 1 / 0'),
    ]
    for _ in range(2):
        with pytest.raises(UserError, match='2 steps .* b b, b d'):
            run(*steps, options=['--resume'])
    assert log.read_text() == 'abcdbd'
    assert [s['name'] for s in steps_of(tmp_path)] == ['a', 'b', 'c', 'd']
    # Steps that are still to come had been kept in the file, too.
    then = json.loads(Path(copy).read_text())
    assert [s['name'] for s in then['steps']] == ['a', 'b', 'c']
    # A step runs again if one that needs its files does.
    steps[2] = steps[2]._replace(needs='a')
    with pytest.raises(UserError, match='2 steps .* b b, b d'):
        run(*steps, options=['--resume'])
    assert log.read_text() == 'abcdbdbd'
    steps[3] = steps[3]._replace(needs='a')
    with pytest.raises(UserError, match='2 steps .* b b, b d'):
        run(*steps, options=['--resume'])
    assert log.read_text() == 'abcdbdbdabd'
    record = json.loads((tmp_path / 'b.json').read_text())
    record['machine']['gpu'] = 'another'
    (tmp_path / 'b.json').write_text(json.dumps(record))
    with pytest.raises(UserError, match="with machine .*'another'"):
        run(*steps, options=['--resume'])


@pytest.mark.parametrize('part', 'bc')
def test_resuming_keeps_the_figures_in_the_docs(part, tmp_path):
    """Their steps still have the same names."""
    images = tmp_path / 'images'
    images.mkdir()
    (images / 'a.jpg').touch()
    args = argparse.Namespace(small=False, data=str(images))
    names = {step.name for step in module.PARTS[part](args, tmp_path)}
    steps = steps_of(ROOT / 'docs/h100', part)
    assert {s['name'] for s in steps if s['status'] == 'ok'} <= names


def test_a_part_without_time_says_so(run, monkeypatch, tmp_path):
    monkeypatch.setattr(module, 'LEAST', 1e6)
    with pytest.raises(UserError, match='no time left: b late'):
        run(python('late', ''))
    assert 'no time left' in (tmp_path / 'report.md').read_text()


def test_a_part_gets_the_time_that_earlier_ones_leave(tmp_path, monkeypatch):
    limits = []

    def run_step(step, limit, scratch):
        limits.append(limit)
        return dict(name=step.name, status='ok', seconds=1)

    monkeypatch.setattr(module, 'run_step', run_step)
    monkeypatch.setattr(module, 'PATIENCE', 1)
    parts = {part: lambda *_: [python('long', '', limit=1e6)] for part in 'ab'}
    monkeypatch.setattr(module, 'PARTS', parts)
    out = ['--out', str(tmp_path)]
    main(['gpu', '--small', *out, '--limit', '500', '--part', 'a', 'b'])
    assert limits == pytest.approx([500, 1000], abs=50)


@pytest.mark.parametrize('content', ['{"part":', '[]', '{"machine": 1}'])
def test_foreign_results_are_refused_before_the_start(
    run, tmp_path, content, monkeypatch
):
    monkeypatch.setattr(module, 'run_step', lambda *_: pytest.fail('started'))
    (tmp_path / 'c.json').write_text(content)
    with pytest.raises(UserError, match='c.json is (damaged|not a result)'):
        run(python('first', ''))


def test_without_a_gpu_it_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(module.torch.cuda, 'is_available', lambda: False)
    with pytest.raises(UserError, match='--small'):
        main(['gpu', '--out', str(tmp_path)])


def test_counts_tests(tmp_path):
    (tmp_path / 'a.xml').write_text(
        '<testsuites><testsuite>'
        '<testcase classname="t" name="a"/>'
        '<testcase classname="t" name="b"><skipped/></testcase>'
        '<testcase classname="t" name="c"><failure>x\ny</failure></testcase>'
        '<testcase classname="t" name="d"><error>z</error></testcase>'
        '</testsuite></testsuites>'
    )
    assert read_tests(tmp_path / 'a.xml') == dict(
        passed=1,
        failed=2,
        skipped=1,
        failures={'t::c': [*'xy'], 't::d': ['z']},
    )


def test_a_group_of_tests_that_dies_names_the_test(tmp_path, monkeypatch):
    file = tmp_path / 'test_it.py'
    file.write_text(
        'import os\n'
        'import pytest\n'
        'pytestmark = pytest.mark.gpu\n'
        'def test_ends(): pass\n'
        'def test_dies(): os._exit(1)\n'
    )
    monkeypatch.setattr(gpu_parts, 'TESTS', dict(all=[str(file)]))
    (step,) = gpu_parts.tests(None, tmp_path)
    result = module.run_step(step, 60, tmp_path)
    assert result['status'] == 'failed'
    assert result['tail'][-1].rstrip().endswith('::test_dies')


def test_all_tests_for_a_gpu_are_run():
    paths = [ROOT / path for group in TESTS.values() for path in group]
    files = {
        file
        for path in paths
        for file in ([path] if path.is_file() else path.glob('test_*.py'))
    }
    for file in (ROOT / 'tests').rglob('test_*.py'):
        text = file.read_text()
        marked = 'mark.gpu' in text or 'import DEVICES' in text
        assert file in {*files, Path(__file__)} or not marked, file
    assert all(path.exists() for path in paths)


MACHINE = dict(gpu='NVIDIA H100', cores=16, torch='2.11.0', python='3.12.3')
ROWS = {
    'ours': 0.2,
    "the release's formulation": 0.3,
    "MMPretrain's DenseCL, one direction": 0.15,
    'limit: backbone passes alone': 0.19,
}


@pytest.fixture
def measured(tmp_path):
    """Figures as a GPU would give them; returns their folder."""
    step = dict(
        settings=dict(
            command='step', batch=256, dtype='float16', compile=False
        ),
        rows=[
            dict(name=name, seconds=s, bytes=10**10)
            for name, s in ROWS.items()
        ],
        ratios={'share of the limit': 0.95},
    )
    steps = [dict(name='step', status='ok', seconds=1, figures=step)]
    record = dict(part='b', small=False, machine=MACHINE, steps=steps)
    (tmp_path / 'b.json').write_text(json.dumps(record))
    return tmp_path


def test_figures_go_into_the_marked_places(measured, tmp_path, monkeypatch):
    page = tmp_path / 'speed.md'
    monkeypatch.setattr(gpu_report, 'PAGE', page)
    empty = 'Not measured yet.\n'.join(PLACE) + '\n'
    page.write_text(
        'Text.\n' + ''.join(empty.format(name, name) for name in TABLES)
    )
    for _ in range(2):  # the second time replaces the first
        main(['docs', str(measured)])
        text = page.read_text()
        start, end = (mark.format('step') for mark in PLACE)
        place = text.partition(start)[2].partition(end)[0]
        assert place.count('| 256, float16 | 200 | 190 | 1280 | 0.95 |') == 1
        assert place.startswith('\nNVIDIA H100, 16 CPU cores')
    assert text.count('Not measured yet.') == len(TABLES) - 1
    assert text.startswith('Text.\n<!-- gpu: tests -->\nNot measured yet.\n')


@pytest.mark.parametrize(
    'change', [dict(small=True), dict(machine=dict(MACHINE, gpu=None))]
)
def test_figures_of_a_cpu_do_not(measured, change):
    record = json.loads((measured / 'b.json').read_text())
    (measured / 'b.json').write_text(json.dumps(record | change))
    with pytest.raises(UserError, match='not measured on a GPU'):
        main(['docs', str(measured)])


def assert_ratios_are_those_of_the_times(figures):
    ours, release, dense, limit = (row['seconds'] for row in figures['rows'])
    assert [row['name'] for row in figures['rows']] == [*ROWS]
    ratios = figures['ratios']
    assert ratios['times faster than the release'] == release / ours
    assert ratios['the same per direction'] == 2 * dense / ours
    assert ratios['share of the limit'] == limit / ours


@pytest.mark.slow
@pytest.mark.parametrize('part', 'abc')
def test_parts_in_small(part, tmp_path):
    main(['gpu', '--small', '--out', str(tmp_path), '--part', part])
    steps = steps_of(tmp_path, part)
    assert {step['status'] for step in steps} == {'ok'}
    if part == 'b':
        assert_ratios_are_those_of_the_times(steps[0]['figures'])
    report = (tmp_path / 'report.md').read_text()
    assert report.count('Nothing measured.') < len(TABLES)
