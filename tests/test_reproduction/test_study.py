"""The pages of docs/study/ have the numbers of the runs, or none."""

import csv
import json
import re
from pathlib import Path
from unittest.mock import Mock

import pytest

from pixcon_mm.tools import evaluate_dense
from reproduction.execute import Selection, execute
from reproduction.plan import read_plan
from reproduction.runs import runs_of, settings_of
from reproduction.status import PlanStatus
from tests import ROOT
from tests.commands import load_tool, run
from tests.test_reproduction.conftest import (
    FINETUNED,
    PRETRAINED,
    TEST,
    methods,
    metrics_of,
    plan_dict,
    write_plan,
)
from tests.test_reproduction.test_frozen import knn

make, probe = (load_tool(name, 'docs/study') for name in ('make', 'probe'))


@pytest.fixture
def plan(tmp_path):
    tables = plan_dict(tmp_path)['tables']
    tables['main']['compare'] = ['random']
    return write_plan(tmp_path, tables=tables)


def write_pages(plan, out):
    make.main([str(plan), '--out', str(out)])
    results = json.loads((out / 'plan.json').read_text())
    page = (out / 'plan.md').read_text()
    for link in re.findall(r'\]\((.+?)\)', page):
        assert (out / link).exists(), link
    return results, page


def read_csv(out):
    return [*csv.DictReader((out / 'plan.csv').read_text().splitlines())]


@pytest.mark.parametrize('name', ['small', 'small_ablations'])
def test_the_results_are_those_of_the_recipes(name):
    """Settings that change make runs stale, also those of other people."""
    file = ROOT / f'docs/study/{name}.json'
    recorded = json.loads(file.read_text())['settings']
    plan = read_plan(f'plans/{name}.yaml')
    today = make.settings(runs_of(plan).values())
    assert recorded == json.loads(json.dumps({k: today[k] for k in recorded}))


def test_before_and_after_the_runs(tmp_path, plan, fake_tools):
    out = tmp_path / 'a/b/out'  # deeper than docs/study
    results, page = write_pages(plan, out)
    assert page.count('not run yet') == 1
    assert '## Training curves' not in page
    assert results['runs'] == results['over epochs'] == {}
    assert not [*out.glob('*.png')]
    status = PlanStatus(read_plan(plan))
    assert execute(status, Selection(), lambda _: None)
    status.forget()
    results, page = write_pages(plan, out)
    assert 'not run yet' not in page
    assert '## Training curves' in page
    assert '## Over the training' not in page  # probe.py has not run
    curves = json.loads((out / 'plan_curves.json').read_text())['curves']
    assert curves[PRETRAINED] == dict(epoch=[1, 2, 3], loss_image=[3, 2, 1])
    assert (out / 'plan_curves.png').exists()
    assert results['runs'].keys() == status.runs.keys()
    test, pretrained = results['runs'][TEST], results['runs'][PRETRAINED]
    assert test['metrics'] == metrics_of(status, TEST)['metrics']
    known = metrics_of(status, PRETRAINED)['checkpoint']
    assert pretrained['checkpoint']['sha256'] == known['sha256']
    assert pretrained['attempts'] == 1
    random, ours = read_csv(out)
    assert float(ours['values'].split(';')[0]) == test['metrics']['mIoU']
    assert float(ours['difference']) == pytest.approx(
        float(ours['mean']) - float(random['mean']), abs=1e-3
    )
    settings = results['settings']['pretrain/sr-toy']
    assert settings['model.type'] == 'PixCon'
    assert 'seed' not in settings


def write_report(file, sha256, miou=10.0, **content):
    """Write what make.py reads of a report of tools/evaluate_dense.py."""
    pairs = dict(recall_at_1=0.5, recall_within_1_cell=0.75)
    shares = {'1/1': dict(miou=miou)}
    report = dict(
        backbone=dict(sha256=sha256) if sha256 else {},
        results=dict(correspondence=pairs, knn=dict(shares=shares)),
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({**report, **content}))


def test_runs_of_an_earlier_machine_are_kept(
    tmp_path, plan, fake_tools, capsys
):
    out, costs = tmp_path / 'out', 'pretrain_device_hours'
    status = PlanStatus(read_plan(plan))
    execute(status, Selection(), lambda _: None)
    status.forget()
    run = status.runs[PRETRAINED]
    sha256 = metrics_of(status, PRETRAINED)['checkpoint']['sha256']
    for epoch, weights in ((0, None), (3, sha256)):
        write_report(probe.report_of(status, run, epoch), weights)
    before, page = write_pages(plan, out)
    assert 'earlier machine' not in page
    curves, lines = (out / 'plan_curves.json').read_text(), read_csv(out)
    (tmp_path / 'runs').rename(tmp_path / 'earlier')
    for _ in range(2):  # what was kept once is kept again
        results, page = write_pages(plan, out)
        assert '10 of 10 runs are kept from an earlier machine' in page
        assert all(record.pop('kept') for record in results['runs'].values())
        assert results == before
        assert len(results['over epochs']) == 2
        assert (out / 'plan_curves.json').read_text() == curves
        for line, known in zip(read_csv(out), lines, strict=True):
            for key in (costs, 'finetune_device_hours'):
                hours = [
                    float(row.pop(key) or 0) for row in (line, dict(known))
                ]
                assert hours[0] == pytest.approx(hours[1], rel=1e-4)
            assert line == {key: known[key] for key in line}
    # A run that is here replaces its record, complete or not; what started
    # from its earlier checkpoint is still kept.
    for is_complete in (False, True):
        (tmp_path / 'fail').touch()
        if is_complete:
            (tmp_path / 'fail').unlink()
        execute(status, Selection((PRETRAINED,)), lambda _: None)
        results, page = write_pages(plan, out)
        assert '9 of 10 runs are kept' in page
        own = results['runs'].pop(PRETRAINED)
        assert (own['state'] == 'complete') == is_complete
        assert own['attempts'] == 1 + is_complete
        assert all(record['kept'] for record in results['runs'].values())
        assert results['over epochs'] == {}
        line = read_csv(out)[1]
        assert line['values'] == lines[1]['values']
        assert (sha256 in line['checkpoint_sha256']) == is_complete
    other = before['runs']['pretrain/sr-toy-seed1']['cost']['device_hours']
    total = own['cost']['device_hours'] + other
    assert float(line[costs]) == pytest.approx(total, rel=1e-4)
    # Like a stale run, one with other settings is in no table.
    changed = methods(options={'model.loss_lambda': 0.25})
    tables = read_plan(plan).model_dump()['tables']
    write_plan(tmp_path, tables=tables, methods=changed)
    capsys.readouterr()
    _, page = write_pages(plan, out)
    assert '4 of 10 runs are kept' in page
    assert FINETUNED in capsys.readouterr().out
    assert [line['n'] for line in read_csv(out)] == ['2', '0']


def test_kept_checkpoints_are_measured_once(tmp_path, monkeypatch):
    folder = tmp_path / 'runs/pretrain/sr-toy-seed1'
    folder.mkdir(parents=True)
    for epoch in (5, 10, 15, 20):
        (folder / f'epoch_{epoch}.pth').write_text(f'weights {epoch}')
    tables = plan_dict(tmp_path)['tables']
    tables['main']['benchmarks'] = [*probe.BENCHMARKS]

    def plan_with(k):
        benchmarks = {
            'voc-knn': {**knn(k=k), 'data': ['toy']},
            'voc-correspondence': knn(
                crop_size=64, protocols='correspondence'
            ),
        }
        return write_plan(tmp_path, benchmarks=benchmarks, tables=tables)

    plan = plan_with(k=7)
    status = PlanStatus(read_plan(plan))
    run = status.runs['pretrain/sr-toy-seed1']
    started = dict(settings=settings_of(run), parent_sha256=None)
    status.run_dir(run).write('run.json', started)
    measured = []

    def measure(line, **_):
        """Write the report of tools/evaluate_dense.py."""
        args = evaluate_dense.parse_args(line[2:])
        weights, out = args.pretrained, args.out
        assert args.crop_size == 64
        sha256 = None if weights == 'none' else probe.sha256_of(Path(weights))
        measured.append(weights if sha256 is None else Path(weights).name)
        settings = {**vars(args), 'data': str(args.data), 'out': None}
        write_report(out, sha256, 10.0 + len(measured), settings=settings)

    monkeypatch.setattr(probe.subprocess, 'run', measure)
    words = [str(plan), '--every', '10']
    probe.main([*words, '--only', '*-seed1'])
    probe.main([*words, '--only', '*-seed1'])
    assert measured == ['none', 'epoch_10.pth', 'epoch_20.pth']
    # Another checkpoint under a known name.
    (folder / 'epoch_20.pth').write_text('other weights')
    probe.main([*words, '--only', '*-seed1'])
    assert measured[3:] == ['epoch_20.pth']
    # Other settings of the evaluation.
    plan_with(k=5)
    probe.main([*words, '--only', '*-seed1'])
    assert measured[4:] == ['none', 'epoch_10.pth', 'epoch_20.pth']
    # One that has not been measured since it changed.
    (folder / 'epoch_10.pth').write_text('other weights')
    results, page = write_pages(plan, tmp_path / 'out')
    points = results['over epochs'].values()
    assert [point['epoch'] for point in points] == [0, 20]
    assert [point['dense_knn'] for point in points] == [15.0, 17.0]
    assert 'plan_epochs.png' in page


def test_many_methods_have_lines_of_their_own():
    curves = {f'run {n}': dict(epoch=[1], loss_image=[1]) for n in range(14)}
    figure = make.draw_curves(curves, {name: name for name in curves})
    lines = figure.axes[0].lines
    styles = {(line.get_color(), line.get_linestyle()) for line in lines}
    assert len(styles) == len(lines) == 14


def test_pictures_are_of_the_model_that_the_plan_trains(tmp_path, monkeypatch):
    options = {'model.head.matching': 'coordinate'}
    plan = write_plan(tmp_path, methods=methods(options=options))
    pictures = load_tool('pictures', 'docs/study')
    build = Mock(side_effect=KeyboardInterrupt)
    monkeypatch.setattr(pictures, 'build_model', build)
    with pytest.raises(KeyboardInterrupt):
        pictures.main([str(plan), '--method', 'sr', '--epochs', '0'])
    assert build.call_args.args[0].model.head.matching == 'coordinate'


@pytest.mark.slow
def test_pictures_of_matches(tmp_path):
    plan, out = write_plan(tmp_path), tmp_path / 'out'
    out.mkdir()
    words = ['docs/study/pictures.py', plan, '--out', out, '--epochs', 0]
    done = run(*words, '--method', 'sr')
    assert done.returncode == 0, done.stderr
    names = sorted(path.name for path in out.iterdir())
    assert names == ['plan_matches_cat.jpg', 'plan_matches_coffee.jpg']
    _, page = write_pages(plan, out)
    assert all(f']({name})' in page for name in names)
    # A checkpoint that is not there, a method without one.
    done = run(*words, 7, '--method', 'sr')
    assert 'epoch_7.pth' in done.stderr
    assert 'Traceback' not in done.stderr
