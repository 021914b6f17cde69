"""tools/benchmark.py from the command line to the table, at toy sizes."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from mmengine.registry import init_default_scope

from benchmarks import measure
from pixcon_mm.errors import UserError
from tests.test_datasets.pictures import write_pictures
from tests.toy import framework_state

ROOT = Path(__file__).resolve().parents[2]
SMALL = ['--batch', '2', '--queue', '64', '--rounds', '2']
MODEL = ['--size', '64', '--depth', '18', '--device', 'cpu']
MODEL += ['--dtype', 'float32']


@pytest.fixture
def tool(monkeypatch):
    path = ROOT / 'tools/benchmark.py'
    spec = importlib.util.spec_from_file_location('benchmark_tool', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    # It would silence the log of all other tests too.
    monkeypatch.setattr(
        module, 'quiet', lambda: init_default_scope('mmpretrain')
    )
    threads = torch.get_num_threads()
    with framework_state():
        yield module
    torch.set_num_threads(threads)


@pytest.fixture
def run(tool, tmp_path, monkeypatch, capsys):
    def call(*argv):
        out = tmp_path / 'figures.json'
        argv = ['benchmark.py', *argv, '--json', str(out)]
        monkeypatch.setattr(sys, 'argv', argv)
        tool.main()
        return json.loads(out.read_text()), capsys.readouterr().out

    return call


def times(record):
    for row in record['rows']:
        low, high = row['spread']
        assert 0 < low <= row['seconds'] <= high
    return {row['name']: row['seconds'] for row in record['rows']}


def test_loss(run):
    record, shown = run('loss', *SMALL, '--cells', '4', '--device', 'cpu')
    assert list(times(record)) == [
        "naive: the release's logits",
        'chunked',
        'fused',
    ]
    assert record['settings']['queue'] == 64
    assert record['machine']['torch'] == torch.__version__
    assert 'times faster' in shown


def test_queue(run):
    record, _ = run('queue', *SMALL, '--lengths', '16', '64')
    assert list(times(record)) == ['K = 16', 'K = 64']


@pytest.mark.slow
def test_step(run):
    record, shown = run('step', *SMALL, *MODEL)
    seconds = times(record)
    ours, release, dense, limit = seconds
    assert (ours, dense) == ('ours', "MMPretrain's DenseCL, one direction")
    ratios = record['ratios']
    faster = seconds[release] / seconds[ours]
    assert ratios['times faster than the release'] == pytest.approx(faster)
    share = seconds[limit] / seconds[ours]
    assert ratios['share of the limit'] == pytest.approx(share)
    assert f'share of the limit: {share:.3g}' in shown


@pytest.mark.slow
def test_data_and_train(run, tmp_path):
    folder = write_pictures(tmp_path / 'scenes', 6, width=160, height=120)
    source = ['--data', str(folder)]
    record, _ = run('data', *SMALL, *source, '--size', '32', '--images', '3')
    assert len(times(record)) == 4
    loops = ['--workers', '0', '--iters', '1']
    record, shown = run('train', *SMALL, *MODEL, *source, *loops)
    assert len(times(record)) == 3
    assert all(0 <= row['data_share'] <= 1 for row in record['rows'])
    rate = 2 / times(record)['ours, loader and step']
    hours = record['ratios']['hours for 800 epochs of COCO']
    assert hours == pytest.approx(800 * 118_287 / rate / 3600)
    assert 'waits for data' in shown


@pytest.mark.slow
def test_scale():
    subprocess.run(
        [sys.executable, ROOT / 'tools/benchmark.py', 'scale', *SMALL, *MODEL],
        check=True,
    )


def test_a_missing_folder_is_a_sentence(run):
    with pytest.raises(UserError, match='no/such'):
        run('data', *SMALL, '--data', 'no/such')


def test_compare_takes_the_median_of_interleaved_rounds(monkeypatch):
    clock = iter([1, 5, 3, 1, 2, 9])
    monkeypatch.setattr(measure, 'seconds', lambda call, device: call())
    called = []

    def call(name):
        def timed():
            called.append(name)
            return next(clock) if len(called) in range(3, 9) else 0

        return timed

    rows = measure.compare(dict(a=call('a'), b=call('b')), 3, 'cpu')
    assert called[:8] == ['a', 'b'] * 4
    assert [row['seconds'] for row in rows] == [2, 5]
    assert [row['spread'] for row in rows] == [(1, 3), (1, 9)]


def test_peak_memory_sees_what_a_call_needs():
    needed = measure.peak_memory(lambda: torch.ones(2**24), 'cpu')
    if needed is None:
        pytest.skip('this system does not count peaks of resident memory')
    assert 2**26 * 0.9 < needed < 2**26 * 1.5
