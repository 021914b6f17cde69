"""Curves are read from MMEngine's logs, smoothed and summarised."""

import json

import numpy as np
import pytest
from matplotlib.figure import Figure

from pixcon_mm.errors import UserError
from pixcon_mm.visualization.curves import (
    plot_curves,
    read_records,
    smooth,
    summarize,
)
from tests.commands import write_scalars


def log(work_dir, stamp, steps, loss):
    records = [
        dict(step=s, loss=loss(s), loss_image=loss(s) / 3, mon_pos_sim=s / 9)
        for s in steps
    ]
    return write_scalars(work_dir, records, stamp)


def hill(step):
    return 10 - abs(step - 40) / 10


def test_smoothing_is_a_running_mean():
    values = np.random.default_rng(0).normal(size=23)
    expected = [values[max(i - 3, 0) : i + 4].mean() for i in range(23)]
    np.testing.assert_allclose(smooth(values, 7), expected)
    np.testing.assert_allclose(smooth(values[:2], 7), [values[:2].mean()] * 2)


def test_summary_finds_start_peak_and_end(tmp_path):
    log(tmp_path, '1', range(1, 101), hill)
    summary = summarize(read_records(tmp_path))
    assert summary['peak_step'] == 40
    assert summary['peak'] == pytest.approx(10, abs=0.2)
    assert summary['start'] == pytest.approx(hill(2), abs=0.1)
    assert summary['end'] == pytest.approx(hill(99), abs=0.1)


def test_resumed_run_is_one_curve(tmp_path):
    """The second log repeats steps 31 to 40; the killed one ends badly."""
    first = log(tmp_path, '20260101_000000', range(1, 41), hill)
    first.write_text(first.read_text() + '{"step": 41, "lo')
    log(tmp_path, '20260102_000000', range(31, 61), lambda s: 1.0)
    records = read_records(tmp_path)
    assert [record['step'] for record in records] == list(range(1, 61))
    assert records[29]['loss'] == hill(30)
    assert records[30]['loss'] == 1.0


def test_records_that_a_new_attempt_has_undone_are_dropped(tmp_path):
    """The second log continues from step 30, and has not reached 100 yet."""
    first = log(tmp_path, '20260101_000000', range(10, 101, 10), hill)
    probe = json.dumps(dict(step=100, probe_miou=1, epoch=9))
    first.write_text(f'{first.read_text()}{probe}\n')
    log(tmp_path, '20260102_000000', range(40, 61, 10), lambda s: 1.0)
    records = read_records(tmp_path)
    assert [r['step'] for r in records] == [10, 20, 30, 40, 50, 60]
    assert [r['loss'] for r in records[3:]] == [1, 1, 1]
    assert not any('probe_miou' in r for r in records)


def test_a_probe_joins_the_record_before_it(tmp_path):
    probes = [dict(step=s, probe_miou=s / 2, epoch=s) for s in (1, 50, 73)]
    training = [dict(step=s, loss=1.0) for s in range(2, 100, 2)]
    write_scalars(
        tmp_path, sorted([*training, *probes], key=lambda r: r['step'])
    )
    records = read_records(tmp_path)
    assert [r['step'] for r in records] == list(range(2, 100, 2))
    found = {r['step']: r['probe_miou'] for r in records if 'probe_miou' in r}
    assert found == {50: 25, 72: 36.5}  # nothing is before the first


@pytest.fixture
def drawn(monkeypatch):
    """Figures that were saved."""
    figures, save = [], Figure.savefig
    monkeypatch.setattr(
        Figure,
        'savefig',
        lambda f, *a, **k: figures.append(f) or save(f, *a, **k),
    )
    return figures


@pytest.mark.parametrize('name', ['_trial', '$^$'])
def test_names_of_runs_are_shown_as_they_are(tmp_path, drawn, name):
    """Not as formulas, nor left out for an underscore at the beginning."""
    log(tmp_path / name, '1', range(1, 9), hill)
    run = read_records(tmp_path / name)
    plot_curves({name: run}, tmp_path / 'curve.png')
    (figure,) = drawn
    legend = figure.legends[0].get_texts()
    shown = [text.get_text().replace('\\', '') for text in legend]
    assert shown == [f'{name} (peak 6.80)', 'total', 'image']


def test_a_run_has_one_colour(tmp_path, drawn):
    """Also where other runs lack a curve, or it begins late."""
    steps = range(1, 9)
    runs = {
        'without': [dict(step=s, loss=1.0) for s in steps],
        'late': [
            dict(
                step=s,
                loss=2.0,
                **(dict(loss_dense=s, mon_weight=s) if s > 4 else {}),
            )
            for s in steps
        ],
        'single': [dict(step=3, loss=3.0, mon_weight=4.0)],
    }
    plot_curves(runs, tmp_path / 'curve.png')
    top, weight = drawn[0].axes
    found = {
        (line.get_label(), line.get_color()): (
            [*line.get_xdata()],
            line.get_marker(),
        )
        for line in top.lines
    }
    assert found['total', 'C0'] == ([*steps], 'None')
    assert found['dense', 'C1'] == ([5, 6, 7, 8], 'None')
    assert found['total', 'C2'] == ([3], '.')
    lines = [(line.get_color(), *line.get_xdata()) for line in weight.lines]
    assert lines == [('C1', 5, 6, 7, 8), ('C2', 3)]


def test_damaged_lines_of_a_log_are_left_out(tmp_path):
    file = log(tmp_path, '1', range(1, 4), hill)
    content = file.read_bytes()
    file.write_bytes(b'[1]\n"loss"\n{"loss": \xff}\n' + content)
    assert [r['step'] for r in read_records(tmp_path)] == [1, 2, 3]


@pytest.mark.parametrize('name', ['nothing', '.'])
def test_folder_without_log_says_so(tmp_path, name):
    with pytest.raises(UserError, match='no training log'):
        read_records(tmp_path / name)
