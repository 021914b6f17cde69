"""Tables as Markdown, CSV and HTML, with their charts."""

import csv
import dataclasses
import io
import re
from xml.etree import ElementTree

import pytest
from rich.console import Console

from reproduction import charts
from reproduction.commands import show_tables
from reproduction.formats import (
    cost_grid,
    notes_of,
    score_grid,
    to_csv,
    to_html,
    to_markdown,
)
from reproduction.published import PublishedNumber, RowKey
from reproduction.run_dir import Cost
from reproduction.tables import Cell, Column, Row, Table

BOX = Column('coco/bbox', 'COCO', 'R50-FPN, 1x', 'AP box')
MASK = Column('coco/segm', 'COCO', 'R50-FPN, 1x', 'AP mask')
MIOU = Column('voc/miou', 'VOC', 'FCN, 20k', 'mIoU')
PAPER, README = 'Paper; Table 1', 'README of the release'
OURS = RowKey('A <b> & |c|', 'COCO', 800)
EMPTY = Table('t', 'Empty', [BOX], [Row(RowKey('A', 'COCO', 1), {})])


def published(value, source=PAPER):
    return PublishedNumber.model_construct(value=value, source=source)


def make_row(**changes) -> Row:
    numbers = [published(38.5), published(38.7, README)]
    row = Row(
        OURS,
        {
            'coco/bbox': Cell([38.6, 38.9, 39.2], 3, 1, numbers),
            'coco/segm': Cell([35.123456789], 3, 1),
            'voc/miou': Cell([], 3),
        },
        pretrain=Cost(1234.5, 'NVIDIA H100', 62.125, 5012.7),
        finetune=Cost(12.3456, 'NVIDIA H100', 20.0),
        config='configs/pretrain/a.py',
        options={'b': 'x|y', 'a': 1},
        checkpoints=['0123456789abcdef' * 4],
        curves={0: [{'step': 1, 'loss': 2.0}]},
    )
    return dataclasses.replace(row, **changes)


RANDOM = Row(
    RowKey('Random', '-', None),
    {'coco/bbox': Cell([30.0], 1), 'voc/miou': Cell([50.0, 52.0], 3)},
)
THEIRS = Row(
    RowKey('Theirs', 'COCO', 200),
    {'coco/bbox': Cell([], 0, 0, [published(None, README)])},
    is_ours=False,
)
TABLE = Table('main', 'Transfer', [BOX, MASK, MIOU], [make_row()])
TABLE = dataclasses.replace(TABLE, rows=[*TABLE.rows, RANDOM, THEIRS])


def table_of(*rows, columns=(BOX,)):
    return Table('t', 'T', [*columns], [*rows])


def csv_lines(tables):
    return list(csv.DictReader(io.StringIO(to_csv(tables))))


def make_page(tables, missing=()):
    return to_html('A & <title>', tables, [*missing], 'today', 'a && b')


@pytest.mark.parametrize(
    ('values', 'wanted', 'text'),
    [
        ([38.6, 38.9, 39.2], 3, '38.9 ± 0.3 (3)'),
        ([38.6, 39.2], 3, '38.9 ± 0.4 (2 of 3)'),
        ([38.9], 1, '38.9 (1)'),
        ([38.949999], 1, '39.0 (1)'),  # 38.95 in the CSV file
        ([], 3, '–'),
    ],
)
def test_a_cell_shows_its_number_of_seeds(values, wanted, text):
    cell = Cell(values, wanted)
    assert str(cell) == text
    (line,) = csv_lines([table_of(Row(OURS, {BOX.key: cell}))])
    if values:
        assert text.startswith(f'{float(line["mean"]):.1f}')


def test_notes_name_rows_whose_seeds_share_a_pretraining():
    notes = ' '.join(notes_of(TABLE))
    assert 'Several seeds use the same pre-training' in notes
    assert 'A <b> & |c| (COCO)' in notes
    assert 'Random' not in notes
    assert 'n/a' in notes
    # Of the table's own columns only.
    assert len(notes_of(dataclasses.replace(TABLE, columns=[MIOU]))) == 2


def test_csv_has_a_line_for_each_cell():
    lines = csv_lines([TABLE])
    assert len(lines) == 9
    first, one_seed, nothing, weights = lines[:4]
    assert first == dict(
        table='main',
        method='A <b> & |c|',
        pretrain_set='COCO',
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
        compared_with='',
        difference='',
        difference_low='',
        difference_high='',
        difference_n='',
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
    assert (one_seed['mean'], one_seed['std']) == ('35.1235', '')
    assert (nothing['mean'], nothing['n'], nothing['wanted']) == ('', '0', '3')
    assert weights['epochs'] == weights['pretrain_device_hours'] == ''
    assert lines[6]['published'] == 'n/a'


def test_markdown():
    lines = to_markdown([TABLE]).splitlines()
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
    assert '### Cost' not in to_markdown([EMPTY])


def grid_of(page, name):
    (table,) = [t for t in page.iter('table') if t.get('id') == name]
    rows = table.iter('tr')
    return [[''.join(cell.itertext()) for cell in row] for row in rows]


def test_the_page_has_the_same_cells():
    page = ElementTree.fromstring(make_page([TABLE]))
    assert grid_of(page, 'table-main') == score_grid(TABLE)
    assert grid_of(page, 'costs-main') == [
        [cell if isinstance(cell, str) else ''.join(cell) for cell in line]
        for line in cost_grid(TABLE)
    ]


def test_the_page_is_whole_and_loads_nothing():
    text = make_page([TABLE], ['seed 1 of <A> has not run.'])
    assert text == make_page([TABLE], ['seed 1 of <A> has not run.'])
    page = ElementTree.fromstring(text)
    assert 'seed 1 of &lt;A&gt; has not run.' in text
    assert '1 thing is missing' in text
    assert not re.search(r'url\((?!#)|@import|<script|<link', text)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    targets = {f'#{name}' for name in ids}
    keys = ('src', 'href')
    links = {x.get(key) for x in page.iter() for key in keys} - {None}
    assert {'#missing'} <= links <= targets
    assert {f'#{n}' for n in re.findall(r'url\(#(.+?)\)', text)} <= targets


@pytest.mark.parametrize('tables', [[], [EMPTY]])
def test_a_page_before_anything_has_run(tables):
    text = make_page(tables)
    ElementTree.fromstring(text)
    assert 'Nothing has run yet' in text
    assert '<svg' not in text


def test_brackets_are_shown_in_the_terminal():
    """They are no markup of rich."""
    column = Column('coco/bbox', 'COCO', 'R50-FPN, 1x', 'AP [box]')
    table = dataclasses.replace(
        table_of(make_row(), columns=(column,)), title='With [/b]'
    )
    output = io.StringIO()
    show_tables([table], Console(file=output, width=200))
    assert 'AP [box]' in output.getvalue()
    assert 'With [/b]' in output.getvalue()


def axes_of(table, column=BOX, draw=charts.draw_bars):
    return draw(table, column, charts.row_styles([table])).axes[0]


def texts_of(axes):
    return [text.get_text() for text in axes.texts]


def test_bars_are_the_means_with_deviations_seeds_and_published_numbers():
    axes = axes_of(TABLE)
    widths = [bar.get_width() for bar in axes.patches]
    assert widths == [pytest.approx(38.9), 30.0]
    assert axes.get_xlim()[0] == 0
    whisker = axes.containers[1].lines[2][0].get_segments()[0]
    assert whisker[:, 0] == pytest.approx([38.6, 39.2])
    assert texts_of(axes) == ['38.9 ± 0.3', '30.0']
    marks = [(li.get_marker(), list(li.get_xdata())) for li in axes.lines]
    assert ('o', [38.6, 38.9, 39.2]) in marks
    assert [x for mark, (x, *_) in marks if mark == 'D'] == [38.5, 38.7]
    texts = texts_of(axes_of(TABLE, MIOU))
    assert texts == ['not run yet', '51.0 ± 1.4 (2 of 3)']
    styles = charts.row_styles([EMPTY])
    assert charts.draw_bars(EMPTY, BOX, styles) is None


def test_costs_are_of_one_pretraining():
    row = make_row(pretrain=Cost(300.0, 'CPU'), checkpoints=['a', 'b', 'c'])
    unknown = make_row(pretrain=None, key=RowKey('B', 'COCO', 800))
    assert charts.hours_of(row) == 100.0
    axes = axes_of(table_of(row, unknown, RANDOM), draw=charts.draw_costs)
    (container,) = axes.containers
    (x, y) = container.lines[0].get_xydata()[0]
    assert (x, y) == (100.0, pytest.approx(38.9))
    # Existing weights are a line across.
    (line,) = [li for li in axes.lines if li.get_linestyle() == '--']
    assert list(line.get_ydata()) == [30.0, 30.0]
    assert charts.draw_costs(table_of(row), MIOU, {}) is None


def test_losses_of_all_pretrainings_once():
    records = [{'step': i, 'loss': 5.0} for i in range(1, 1001)]
    table = table_of(make_row(curves={0: records, 1: records, 2: []}))
    styles = charts.row_styles([table])
    figure = charts.draw_losses([table, table], styles)
    lines = figure.axes[0].lines
    assert len(lines) == 2
    assert {line.get_color() for line in lines} == {'#332288'}
    assert max(lines[0].get_xdata()) == 1000
    assert len(lines[0].get_xdata()) <= 300
    assert lines[0].get_ydata() == pytest.approx(5.0)
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ['A <b> & |c|']
    assert charts.draw_losses([EMPTY], styles) is None


def test_labels_hold_what_differs_between_rows():
    keys = [
        RowKey('A', 'COCO', 800),
        RowKey('A', 'COCO', 200),
        RowKey('A', 'COCO+', 800),
        RowKey('B', 'COCO', 800),
    ]
    styles = charts.row_styles([table_of(*(Row(key, {}) for key in keys))])
    assert [styles[key].label for key in keys] == [
        *('A, COCO, 800 epochs', 'A, COCO, 200 epochs', 'A, COCO+', 'B')
    ]
    assert len({style.color for style in styles.values()}) == 4
