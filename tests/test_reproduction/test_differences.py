"""Paired differences: the seeds, the interval, and where they are written."""

import csv
import io
from xml.etree import ElementTree

import pytest

from reproduction import cli, commands
from reproduction.differences import (
    Difference,
    paired_difference,
)
from reproduction.execute import Selection, execute
from reproduction.formats import to_csv
from reproduction.plan import read_plan
from reproduction.status import PlanStatus
from reproduction.tables import Cell, collect_tables
from tests.test_reproduction.conftest import methods, plan_dict, write_plan


@pytest.mark.parametrize(
    ('values', 'half', 'text'),
    [
        # Quantiles of Student's t for 95 %, from a printed table.
        ([1.0, 3.0], 12.706, '+2.0 [-10.7, +14.7] (2)'),
        ([1.0, 2.0, 3.0], 4.303 / 3**0.5, '+2.0 [-0.5, +4.5] (3)'),
        ([-1.0, 0.0, 1.0, 2.0, 3.0], 2.776 * 0.5**0.5, None),
        ([2.0, 2.0], 0.0, '+2.0 [+2.0, +2.0] (2)'),
        ([-1.26], None, '-1.3 (1)'),
        ([], None, '–'),
    ],
)
def test_intervals(values, half, text):
    difference = Difference(values)
    if half is None:
        assert difference.interval is None
    else:
        low, high = difference.interval
        assert high - low == pytest.approx(2 * half, abs=2e-3)
        assert (low + high) / 2 == pytest.approx(difference.mean)
    assert text in (None, str(difference))


def test_only_seeds_that_both_have_count():
    ours = Cell([10.0, 20.0, 30.0], 3, seeds=[0, 1, 5])
    theirs = Cell([3.0, 4.0, 5.0], 3, seeds=[5, 0, 2])
    assert paired_difference(ours, theirs).values == [6.0, 27.0]
    assert paired_difference(ours, Cell()).values == []


def status_with(folder, **changes):
    """Return the status of a plan that compares with both other methods."""
    tables = plan_dict(folder)['tables']
    all_methods = methods()
    all_methods['moco'] = {
        **all_methods['sr'],
        'title': 'MoCo',
        'options': {'model.loss_lambda': 0.0},
    }
    tables['main'].update(
        compare=['random', 'moco'],
        rows=[dict(methods=['random', 'moco', 'sr'], pretrain_sets=['toy'])],
        **changes,
    )
    path = write_plan(folder, methods=all_methods, tables=tables)
    return path, PlanStatus(read_plan(path))


def test_every_format_has_the_same_differences(tmp_path, fake_tools):
    path, status = status_with(tmp_path)
    # One seed of the last method is not there yet.
    wanted = ('*random*', '*moco*', '*sr-toy-seed1')
    execute(status, Selection(wanted), lambda _: None)
    status.forget()
    (table,) = collect_tables(status)
    random, moco, ours = (row.cells['seg/mIoU'] for row in table.rows)
    assert [*table.references] == ['Random', 'MoCo']
    # Each pair of rows once.
    found = [
        Difference(values)
        for values in (
            [a - b for a, b in zip(moco.values, random.values, strict=True)],
            [ours.values[0] - random.values[1]],
            [ours.values[0] - moco.values[1]],
        )
    ]
    commands.call(cli.parse_args(['table', str(path)]))
    folder = tmp_path / 'runs'
    page = (folder / 'table.md').read_text()
    _, first, second = page.split('### Difference from ')
    assert first.startswith('Random\n')
    assert f'| MoCo | toys | {found[0]} |' in first
    assert f'| PixCon-SR | toys | {found[1]} |' in first
    assert f'| PixCon-SR | toys | {found[2]} |' in second
    html = ElementTree.parse(folder / 'table.html')
    texts = {''.join(cell.itertext()) for cell in html.iter('td')}
    assert {str(difference) for difference in found} <= texts
    lines = [*csv.DictReader(io.StringIO(to_csv([table])))]
    assert [line['compared_with'] for line in lines] == [
        *('', 'Random', 'Random;MoCo')
    ]
    low, high = found[0].interval
    assert float(lines[1]['difference_low']) == pytest.approx(low, rel=1e-5)
    assert float(lines[1]['difference_high']) == pytest.approx(high, rel=1e-5)
    assert lines[2]['difference_n'] == '1;1'
    assert lines[2]['difference_low'] == ';'


def test_a_reference_is_of_the_same_images_or_the_only_one(tmp_path):
    plan = plan_dict(tmp_path)
    plan['pretrain_sets']['other'] = {
        **plan['pretrain_sets']['toy'],
        'title': 'others',
    }
    sets = ['toy', 'other']

    def pairs(reference):
        tables = plan['tables']
        rows = [dict(methods=['random', 'sr'], pretrain_sets=sets)]
        tables['main'].update(rows=rows, compare=[reference])
        changed = write_plan(
            tmp_path, tables=tables, pretrain_sets=plan['pretrain_sets']
        )
        (table,) = collect_tables(PlanStatus(read_plan(changed)))
        ((_, found),) = table.references.items()
        return [(row.key[:2], other.key[:2]) for row, other in found]

    random = ('Random', '-')
    assert pairs('random') == [
        (('PixCon-SR', 'toys'), random),
        (('PixCon-SR', 'others'), random),
    ]
    # Random weights have no images that would choose between two rows.
    assert pairs('sr') == []
