"""The benchmarks from the command line to the table, at toy sizes."""

import json

import pytest
import torch

from benchmarks import measure
from benchmarks.main import main
from pixcon_mm.errors import UserError
from tests.test_datasets.pictures import write_pictures

SMALL = ['--batch', '2', '--queue', '64', '--rounds', '2', '--device', 'cpu']
SMALL += ['--dtype', 'float32']
MODEL = ['--size', '64', '--depth', '18']


@pytest.fixture
def run(tmp_path, capsys):
    """Run a benchmark; returns its figures and the table."""
    threads = torch.get_num_threads()

    def _run(*words):
        out = tmp_path / 'figures.json'
        main([*words, '--json', str(out)])
        return json.loads(out.read_text()), capsys.readouterr().out

    yield _run
    torch.set_num_threads(threads)


def times(record):
    for row in record['rows']:
        low, high = row['spread']
        assert 0 < low <= row['seconds'] <= high
    return {row['name']: row['seconds'] for row in record['rows']}


def test_loss(run):
    record, shown = run('loss', *SMALL, '--cells', '4')
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
    ours, release, dense, limit = times(record).values()
    assert list(times(record))[::2] == [
        'ours',
        "MMPretrain's DenseCL, one direction",
    ]
    ratios = record['ratios']
    assert ratios['times faster than the release'] == release / ours
    assert ratios['the same per direction'] == 2 * dense / ours
    assert ratios['share of the limit'] == limit / ours
    assert f'share of the limit: {limit / ours:.3g}' in shown


@pytest.mark.slow
def test_data_and_train(run, tmp_path):
    folder = write_pictures(tmp_path / 'scenes', 6, width=160, height=120)
    (folder / 'broken.jpg').write_bytes(b'no image')
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
def test_scale(run):
    record, _ = run('scale', *SMALL, *MODEL)
    alone, apart, together = times(record).values()
    assert record['ratios'] == {
        'share of the step that is exchange of gradients': pytest.approx(
            1 - apart / together
        ),
        'efficiency of 2 processes': pytest.approx(alone / together),
    }


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
