"""The benchmarks from the command line to the table, at toy sizes."""

import json
import multiprocessing
from argparse import Namespace
from functools import partial

import pytest
import torch

from benchmarks import measure
from benchmarks.data import batches
from benchmarks.main import main
from benchmarks.scale import APART
from benchmarks.train import Blocks
from pixcon_mm.errors import UserError

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


@pytest.mark.parametrize(
    ('words', 'names'),
    [
        (
            ['loss', '--cells', '4'],
            ["naive: the release's logits", 'chunked', 'fused'],
        ),
        (['queue', '--lengths', '16', '64'], ['K = 16', 'K = 64']),
        pytest.param(
            ['scale', *MODEL],
            ['one process', APART, 'processes with DDP'],
            marks=pytest.mark.slow,
        ),
    ],
    ids=lambda words: words[0],
)
def test_from_the_command_line_to_the_table(run, words, names):
    record, shown = run(*words, *SMALL)
    assert [*times(record)] == names
    assert record['settings']['queue'] == 64
    assert record['machine']['torch'] == torch.__version__
    assert 'times faster' in shown
    if words[0] == 'scale':
        alone, apart, together = times(record).values()
        assert record['ratios'] == {
            'share of the step spent exchanging gradients': pytest.approx(
                1 - apart / together
            ),
            'efficiency of 2 processes': pytest.approx(alone / together),
        }


@pytest.mark.slow
def test_memory(run):
    sizes = ['--batch', '2', '--queue', '64', *MODEL]
    record, shown = run('memory', *sizes)
    ours, release = (row['peak'] for row in record['rows'])
    share = record['ratios']["share of the release's formulation"]
    assert 0 < ours < release
    assert share == ours / release
    assert f'{share:.3g}' in shown
    assert 'peak GB' in shown


def test_a_missing_folder_is_a_sentence(run):
    with pytest.raises(UserError, match='no/such'):
        run('data', *SMALL, '--data', 'no/such')


def test_compare_takes_the_median_of_interleaved_rounds(monkeypatch):
    # Before the three rounds, a call to warm up; after them, memory.
    clock, called, repeats = iter([0, 0, 1, 5, 3, 1, 2, 9]), [], []

    def seconds(call, device, repeat):
        repeats.append(repeat)
        return call()

    monkeypatch.setattr(measure, 'seconds', seconds)

    def call(name):
        return lambda: called.append(name) or next(clock, 0)

    calls = dict(a=call('a'), b=call('b'))
    rows = measure.compare(calls, 3, 'cpu', repeat=7)
    assert repeats == [7] * 6
    assert called[:8] == ['a', 'b'] * 4
    assert [row['seconds'] for row in rows] == [2, 5]
    assert [row['spread'] for row in rows] == [(1, 3), (1, 9)]


def test_seconds_are_those_of_one_repetition(monkeypatch):
    clock, called = iter([1.0, 7.0]), []
    monkeypatch.setattr(measure.time, 'perf_counter', lambda: next(clock))
    assert measure.seconds(lambda: called.append(0), 'cpu', repeat=3) == 2
    assert len(called) == 3


def test_one_loader_at_a_time():
    """One that loads in advance would slow down the block that is timed."""
    args = Namespace(batch=2, workers=2, device='cpu', iters=4)
    before = {*multiprocessing.active_children()}
    seen = []

    def loaders():
        return len({*multiprocessing.active_children()} - before)

    def step(batch):
        assert batch.shape == (2, 3)
        seen.append(loaders())

    blocks = [
        Blocks(partial(batches, torch.rand(8, 3), args), step, args, ahead=4)
        for _ in range(2)
    ]
    for block in blocks * 2:
        assert not loaders()
        block.run()
    assert not loaders()
    assert seen == [2] * 4 * (4 + 1 + 4)
    assert [len(block.times) for block in blocks] == [2, 2]


def test_peak_memory_sees_what_a_call_needs():
    needed = measure.peak_memory(lambda: torch.ones(2**24), 'cpu')
    if needed is None:
        pytest.skip('this system does not count peaks of resident memory')
    assert 2**26 * 0.9 < needed < 2**26 * 1.5
