"""A run is compared with the band of its recipe's runs."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pixcon_mm.errors import UserError
from pixcon_mm.tools.plot_curve import by_name, main
from pixcon_mm.visualization.reference import (
    WIDTH,
    Excursion,
    band_of,
    find_excursions,
    load_reference,
    make_reference,
    save_reference,
)
from tests import ROOT
from tests.commands import write_scalars

RECIPE = 'pixcon_r18_demo'


def records(seed, steps=200, every=5, shift=None):
    """Return a log of a loss that falls from 12 to 8, and one monitor."""
    noise = np.random.default_rng(seed).normal(size=(2, steps + 1))
    rows = []
    for step in range(every, steps + 1, every):
        loss = 8 + 4 * np.exp(-step / 50) + 0.1 * noise[0, step]
        if shift and shift[0] <= step <= shift[1]:
            loss += shift[2]
        rows.append(
            dict(
                step=step,
                loss=loss,
                lr=0.1,
                mon_momentum=0.99,
                mon_effective_rank=200 + noise[1, step],
            )
        )
    return rows


def runs(count=3):
    return {f'seed{i}': records(i) for i in range(count)}


def test_the_band_is_five_deviations_of_one_more_run():
    """Runs that differ by constants: mean 1, deviation 1 everywhere."""
    curves = np.stack([np.linspace(0, 1, 30) + c for c in (0, 1, 2)])
    low, mean, high = band_of(curves)
    np.testing.assert_allclose(high - mean, WIDTH * np.sqrt(4 / 3))
    np.testing.assert_allclose(mean - low, WIDTH * np.sqrt(4 / 3))
    np.testing.assert_allclose(mean[5:-5], 1 + np.linspace(0, 1, 30)[5:-5])


@pytest.mark.parametrize('seed', range(10, 30))
def test_another_seed_stays_in_the_band(seed):
    assert not find_excursions(make_reference(RECIPE, runs()), records(seed))


@pytest.mark.parametrize('steps', [60, 200, 400])
@pytest.mark.parametrize('every', [2, 5, 8])
def test_other_lengths_and_intervals_are_compared(steps, every):
    reference = make_reference(RECIPE, runs())
    assert not find_excursions(reference, records(9, steps, every))
    shifted = records(9, steps, every, (20, 60, -3))
    (found,) = find_excursions(reference, shifted)
    assert found.name == 'loss'
    assert found.start in range(15, 30)
    assert found.end in range(45, 75)
    assert found.value < found.low
    assert found.low < np.interp(found.step, [0, 50, 200], [12, 9.5, 8])


def test_a_single_iteration_is_not_a_range():
    item = Excursion('loss', 8, 8, 8, 9.0, 12.0, 13.0)
    assert str(item).startswith('iteration 8: loss leaves the band; at 8')


def test_nan_is_outside():
    reference = make_reference(RECIPE, runs())
    broken = records(9)
    for row in broken[-8:]:
        row['loss'] = float('nan')
    (found,) = find_excursions(reference, broken)
    assert (found.name, found.end) == ('loss', 200)
    assert found.start in range(155, 165)
    assert np.isnan(found.value)


def test_a_file_gives_the_same_band(tmp_path):
    reference = make_reference(RECIPE, runs())
    assert [*reference.curves] == ['loss', 'mon_effective_rank']
    save_reference(reference, tmp_path / 'a.json')
    again = load_reference(tmp_path / 'a.json')
    np.testing.assert_array_equal(again.steps, reference.steps)
    for name, values in reference.curves.items():
        np.testing.assert_allclose(again.curves[name], values, rtol=1e-3)


def test_the_tool_saves_and_compares(tmp_path, capsys):
    shifted = records(7, 100, 5, (40, 80, 3))
    for name, rows in {**runs(), 'high': shifted}.items():
        write_scalars(tmp_path / name, rows)
    folders = [str(tmp_path / name) for name in runs()]
    file = str(tmp_path / 'toy.json')
    main([*folders, '--save', file])
    capsys.readouterr()
    # The folder of the picture is made.
    out = tmp_path / 'new/a.png'
    run = str(tmp_path / 'high')
    (tmp_path / 'high/other.py').touch()
    main([run, '--against', file, '--out', str(out)])
    output = capsys.readouterr().out
    assert 'high: its config is other, and the reference curves are' in output
    (tmp_path / 'high/other.py').rename(tmp_path / 'high/toy.py')
    main([run, '--against', file, '--out', str(out)])
    assert 'its config' not in capsys.readouterr().out
    assert 'high: iterations' in output
    assert 'loss leaves the band; at' in output
    inside = 'in the band of toy up to iteration 95: mon_effective_rank\n'
    assert inside in output
    with Image.open(out) as picture:
        red = (np.array(picture.convert('RGB')) == (214, 39, 40)).all(-1)
    assert red.sum() > 50


def test_runs_are_named_by_what_tells_them_apart():
    paths = [Path('a/run'), Path('b/run'), Path('b/other')]
    names = [name for name, _ in by_name(paths)]
    assert names == ['a/run', 'b/run', 'b/other']
    assert by_name([Path('.')])[0][0] == Path.cwd().name


@pytest.mark.parametrize(
    ('words', 'sentence'),
    [
        (['run', 'run'], 'a run is named twice'),
        (['run', '--out', 'curve'], 'the suffix must be one of'),
        (['run', '--out', 'curve.txt'], 'the suffix must be one of'),
    ],
)
def test_options_that_cannot_work(
    tmp_path, monkeypatch, capsys, words, sentence
):
    monkeypatch.chdir(tmp_path)
    write_scalars(tmp_path / 'run', records(0, 50))
    with pytest.raises(SystemExit):
        main(words)
    assert sentence in capsys.readouterr().err


def test_the_repository_has_the_curves_of_the_demo():
    reference = load_reference(ROOT / f'docs/curves/{RECIPE}.json')
    assert reference.recipe == RECIPE
    assert reference.steps[-1] == 256
    for curve in ('loss', 'mon_feature_std', 'mon_effective_rank'):
        assert len(reference.curves[curve]) >= 3


def test_mistakes_are_explained(tmp_path):
    with pytest.raises(UserError, match='at least three runs'):
        make_reference(RECIPE, runs(2))
    apart = {'a': records(0, 50), 'b': records(1, 50)[:4]}
    apart['b'] = [{**row, 'step': row['step'] + 1} for row in apart['b']]
    apart['c'] = apart['b']
    with pytest.raises(UserError, match='no iteration in common'):
        make_reference(RECIPE, apart)
    diverged = runs()
    [*diverged.values()][1][-1]['loss'] = float('nan')
    with pytest.raises(UserError, match='loss of a run is NaN'):
        make_reference(RECIPE, diverged)
    with pytest.raises(UserError, match='no file of .* pixcon_r18_demo'):
        load_reference('pixcon_r18_demo')
    for spoiled in (
        '{"recipe": "b"}',
        '{"recipe": "b", "steps": [1, 2], "curves": {"loss": [[3.0]]}}',
        '{"recipe": "b", "steps": [1, 2], "curves": {}}',
        '{"recipe": "b", "steps": [], "curves": {"loss": [[]]}}',
    ):
        (tmp_path / 'b.json').write_text(spoiled)
        with pytest.raises(UserError, match='holds no reference curves'):
            load_reference(tmp_path / 'b.json')
    reference = make_reference(RECIPE, runs())
    with pytest.raises(UserError, match='ends at iteration .*must reach'):
        find_excursions(reference, [dict(step=3, loss=1.0)])
