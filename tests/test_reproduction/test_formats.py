"""Cells, Markdown and CSV of tables."""

import csv
import dataclasses
import io

import pytest

from reproduction.formats import (
    CSV_HEADER,
    cell_text,
    compact,
    notes_of,
    number,
    pretrainings,
    published_marks,
    shown,
    sources_of,
    to_csv,
    to_markdown,
)
from reproduction.results import (
    Cell,
    Column,
    Cost,
    Published,
    Row,
    Table,
)

BOX = Column('coco/bbox', 'COCO', 'R50-FPN, 1x', 'AP box')
MASK = Column('coco/segm', 'COCO', 'R50-FPN, 1x', 'AP mask')
MIOU = Column('voc/miou', 'VOC', 'FCN, 20k', 'mIoU')
PAPER, README = 'Paper; Table 1', 'README of the release'


def make_table() -> Table:
    ours = Row(
        'A <b> & |c|',
        'COCO',
        800,
        {
            'coco/bbox': Cell(
                [38.6, 38.9, 39.2],
                3,
                1,
                [Published(38.5, PAPER), Published(38.7, README)],
            ),
            'coco/segm': Cell([35.123456789], 3, 1),
            'voc/miou': Cell([], 3),
        },
        pretrain=Cost(1234.5, 'NVIDIA H100', 62.125, 5012.7),
        finetune=Cost(12.3456, 'NVIDIA H100', 20.0),
        config='configs/pretrain/a.py',
        options={'b': 'x|y', 'a': 1},
        checkpoints=['0123456789abcdef' * 4],
        curves={'pretrain/a-coco-seed0': [{'step': 1, 'loss': 2.0}]},
    )
    given = Row(
        'Random',
        '-',
        None,
        {'coco/bbox': Cell([30.0], 1), 'voc/miou': Cell([50.0, 52.0], 3)},
    )
    theirs = Row(
        'Theirs',
        'COCO',
        200,
        {'coco/bbox': Cell([], 0, 0, [Published(None, README)])},
        is_ours=False,
    )
    return Table('main', 'Transfer', [BOX, MASK, MIOU], [ours, given, theirs])


def csv_lines(tables: list[Table]) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(to_csv(tables))))


@pytest.mark.parametrize(
    ('values', 'wanted', 'text'),
    [
        ([38.6, 38.9, 39.2], 3, '38.9 ± 0.3 (3)'),
        ([38.6, 39.2], 3, '38.9 ± 0.4 (2 of 3)'),
        ([38.9], 3, '38.9 (1 of 3)'),
        ([38.9], 1, '38.9 (1)'),
        ([], 3, '–'),
        ([float('nan')], 1, 'nan (1)'),
    ],
)
def test_a_cell_says_how_many_seeds_it_is_of(values, wanted, text):
    assert cell_text(Cell(values, wanted)) == text


@pytest.mark.parametrize(
    'value', [38.95, 38.949999, 38.9499999999, 38.85, 0.05, 99.95]
)
def test_one_decimal_is_the_csv_files_number_rounded(value):
    assert shown(value) == f'{float(number(value)):.1f}'


def test_costs_keep_the_digits_that_matter():
    texts = [compact(v) for v in (None, 0.0123, 9.96, 47.26, 1234.5)]
    assert texts == ['–', '0.012', '10.0', '47.3', '1234']


def test_sources_are_numbered_in_reading_order():
    table = make_table()
    sources = sources_of(table)
    assert sources == {PAPER: 1, README: 2}
    first, _, theirs = (r.cells['coco/bbox'] for r in table.rows)
    assert published_marks(first, sources) == [('38.5', 1), ('38.7', 2)]
    assert published_marks(theirs, sources) == [('n/a', 2)]


def test_notes_name_rows_whose_seeds_share_a_pretraining():
    notes = ' '.join(notes_of(make_table()))
    assert 'Seeds share pre-trainings' in notes
    assert 'A <b> & |c| (COCO)' in notes
    assert 'Random' not in notes
    assert 'n/a' in notes


def test_notes_are_of_the_tables_own_columns():
    table = dataclasses.replace(make_table(), columns=[MIOU])
    assert len(notes_of(table)) == 1


def test_only_begun_pretrainings_count():
    row = dataclasses.replace(
        make_table().rows[1],
        curves={'seed0': [{'step': 1, 'loss': 1.0}], 'seed1': []},
    )
    assert pretrainings(row) == 1


def test_csv_has_a_line_for_each_cell():
    lines = csv_lines([make_table()])
    assert to_csv([]) == f'{CSV_HEADER}\n'
    assert len(lines) == 9
    first, one_seed, nothing = lines[:3]
    expected = dict(
        table='main',
        method='A <b> & |c|',
        pretrain_data='COCO',
        epochs='800',
        benchmark='COCO',
        protocol='R50-FPN, 1x',
        metric='AP box',
        mean='38.9',
        std='0.3',
        n='3',
        wanted='3',
        pretrainings='1',
        values='38.6;38.9;39.2',
        published='38.5;38.7',
        published_source='Paper, Table 1;README of the release',
        pretrain_device_hours='1234.5',
        finetune_device_hours='12.3456',
        device='NVIDIA H100',
        peak_memory_gib='62.125',
        images_per_second='5012.7',
        config='configs/pretrain/a.py',
        options='{"a": 1, "b": "x|y"}',
        checkpoint_sha256='0123456789abcdef' * 4,
    )
    assert first == expected
    assert (one_seed['mean'], one_seed['std']) == ('35.1235', '')
    assert (nothing['mean'], nothing['n'], nothing['wanted']) == ('', '0', '3')


def test_csv_of_a_row_without_costs_or_runs():
    given, theirs = csv_lines([make_table()])[3::3]
    assert given['epochs'] == given['pretrain_device_hours'] == ''
    assert (theirs['published'], theirs['wanted']) == ('n/a', '0')


def test_markdown_table():
    text = to_markdown([make_table()])
    lines = text.splitlines()
    assert lines[0] == '## Transfer'
    assert lines[2] == (
        '| method | pre-trained on | epochs | COCO, AP box | published '
        '| COCO, AP mask | VOC, mIoU |'
    )
    assert lines[4:7] == [
        r'| A &lt;b> &amp; \|c\| | COCO | 800 | 38.9 ± 0.3 (3) '
        '| 38.5 [1], 38.7 [2] | 35.1 (1 of 3) | – |',
        '| Random | - | – | 30.0 (1) |  | – | 51.0 ± 1.4 (2 of 3) |',
        '| Theirs (published by others) | COCO | 200 | – | n/a [2] | – | – |',
    ]
    assert '- [1] Paper; Table 1' in lines
    assert lines.count('- COCO: R50-FPN, 1x') == 1
    assert lines[-1] == (
        r'| A &lt;b> &amp; \|c\| | COCO | 1 | 1234 | NVIDIA H100 | 62.1 '
        r'| 5013 | 12.3 | `configs/pretrain/a.py` `b=x\|y` `a=1` '
        '| `0123456789ab` |'
    )


def test_markdown_of_nothing():
    assert to_markdown([]) == ''
    empty = to_markdown([Table('t', 'Empty', [], [])])
    assert '| method | pre-trained on | epochs |' in empty
    assert '### Cost' not in empty
