"""The page and its charts."""

import dataclasses
import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from reproduction import bar_chart, charts, cost_chart, loss_chart
from reproduction.page import page
from reproduction.results import Cell, Cost, Published, Row, Table
from tests.test_reproduction.test_formats import (
    BOX,
    MASK,
    MIOU,
    csv_lines,
    make_table,
)

EMPTY = Table('t', 'Empty', [BOX], [Row('A', 'COCO', 1, {})])


def make_page(tables: list[Table], missing: tuple[str, ...] = ()) -> str:
    return page('A & <title>', tables, list(missing), 'today', 'a && b')


class Tables(HTMLParser):
    """Texts of all cells, by table and row; checks that tags match."""

    def __init__(self, text: str):
        super().__init__()
        self.tables, self.open, self.links = {}, [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.open.append(tag)
        attrs = dict(attrs)
        self.links += [
            value for key, value in attrs.items() if key in ('src', 'href')
        ]
        if tag == 'table':
            self.rows = self.tables[attrs['id']] = []
        if tag == 'tr':
            self.rows.append([])
        if tag in ('td', 'th'):
            self.rows[-1].append('')

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self.open.pop()

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if 'sup' not in self.open and {'td', 'th'} & set(self.open):
            self.rows[-1][-1] += data


def test_the_pages_numbers_are_the_csv_files():
    table = make_table()
    rows = Tables(make_page([table])).tables['table-main'][2:]
    lines = csv_lines([table])
    assert len(rows) == 3
    for i, row in enumerate(rows):
        cells = iter(row[3:])
        for line in lines[3 * i : 3 * i + 3]:
            expected = '–'
            if line['mean']:
                expected = f'{float(line["mean"]):.1f}'
                if line['std']:
                    expected += f' ± {float(line["std"]):.1f}'
                of = '' if line['n'] == line['wanted'] else ' of 3'
                expected += f' ({line["n"]}{of})'
            assert next(cells) == expected
            if line['metric'] == 'AP box':
                published = next(cells).strip().split(', ')
                assert published == line['published'].split(';')
        assert next(cells, None) is None


def test_the_pages_costs_are_the_csv_files():
    table = make_table()
    _, row = Tables(make_page([table])).tables['costs-main']
    line = csv_lines([table])[0]
    assert row[2] == line['pretrainings']
    assert row[4] == line['device']
    for text, key in zip(
        (row[3], *row[5:8]),
        (
            'pretrain_device_hours',
            'peak_memory_gib',
            'images_per_second',
            'finetune_device_hours',
        ),
        strict=True,
    ):
        assert float(text) == pytest.approx(float(line[key]), rel=5e-3)
    assert row[9] == line['checkpoint_sha256'][:12]


def test_the_page_is_whole_and_loads_nothing():
    text = make_page([make_table()], ['seed 1 of <A> has not run.'])
    ElementTree.fromstring(text)
    links = Tables(text).links
    assert links
    assert all(link.startswith('#') for link in links)
    assert not re.search(r'url\((?!#)|@import|<script|<link', text)
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    targets = {f'#{name}' for name in ids}
    assert set(links) <= targets
    assert {f'#{n}' for n in re.findall(r'url\(#(.+?)\)', text)} <= targets


def test_the_page_is_the_same_each_time():
    assert make_page([make_table()]) == make_page([make_table()])


def test_what_is_missing_is_said():
    text = make_page([make_table()], ['seed 1 of <A> has not run.'])
    assert 'seed 1 of &lt;A&gt; has not run.' in text
    assert '1 thing is missing' in text
    assert 'all runs of the plan are complete' in make_page([make_table()])


@pytest.mark.parametrize('tables', [[], [EMPTY]])
def test_a_page_before_anything_has_run(tables):
    text = make_page(tables)
    ElementTree.fromstring(text)
    assert 'Nothing has run yet' in text
    assert '<svg' not in text


def axes_of(table: Table, column=BOX, draw=bar_chart.bars):
    figure = draw(table, column, charts.looks_of([table]))
    return figure.axes[0]


def test_bars_are_the_means_and_whiskers_the_deviations():
    axes = axes_of(make_table())
    assert [bar.get_width() for bar in axes.patches] == [
        pytest.approx(38.9),
        30.0,
    ]
    assert axes.get_xlim()[0] == 0
    whisker = axes.containers[1].lines[2][0].get_segments()[0]
    assert whisker[:, 0] == pytest.approx([38.6, 39.2])
    texts = [text.get_text() for text in axes.texts]
    assert texts == ['38.9 ± 0.3', '30.0']


def test_seeds_and_published_numbers_are_marked():
    lines = axes_of(make_table()).lines
    marks = {
        line.get_marker(): list(line.get_xdata())
        for line in reversed(lines)
        if line.get_marker() in 'oD'
    }
    assert marks == {'o': [38.6, 38.9, 39.2], 'D': [38.5, 38.7]}


def test_a_missing_bar_says_so():
    texts = [t.get_text() for t in axes_of(make_table(), MIOU).texts]
    assert texts == ['not run yet', '51.0 ± 1.4 (2 of 3)']
    assert bar_chart.bars(EMPTY, BOX, charts.looks_of([EMPTY])) is None


def test_bars_of_published_numbers_alone():
    cell = Cell([], 0, 0, [Published(41.0, 'Paper')])
    row = Row('B', 'COCO', 1, {BOX.key: cell}, is_ours=False)
    axes = axes_of(Table('t', 'T', [BOX], [row]))
    assert not axes.patches
    assert [t.get_text() for t in axes.texts] == ['41.0 published']


def test_bars_of_what_is_no_number():
    rows = [
        Row(title, 'COCO', 1, {BOX.key: Cell([value], 2), MASK.key: other})
        for title, value in (('A', float('nan')), ('B', 40.0))
        for other in [Cell([30.0], 2)]
    ]
    table = Table('t', 'T', [BOX, MASK], rows)
    axes = axes_of(table)
    assert [bar.get_width() for bar in axes.patches] == [40.0]
    texts = [text.get_text() for text in axes.texts]
    assert texts == ['nan (1 of 2)', '40.0 (1 of 2)']
    ElementTree.fromstring(make_page([table]))


def test_costs_are_of_one_pretraining():
    row = dataclasses.replace(
        make_table().rows[0],
        pretrain=Cost(300.0, 'CPU'),
        checkpoints=['a', 'b', 'c'],
    )
    unknown = dataclasses.replace(row, title='B', pretrain=None)
    given = make_table().rows[1]
    assert cost_chart.hours_of(row) == 100.0
    assert cost_chart.hours_of(unknown) is None
    assert cost_chart.hours_of(given) == 0.0
    axes = axes_of(
        Table('t', 'T', [BOX], [row, unknown, given]), draw=cost_chart.costs
    )
    (x, y), (x_given, _) = (
        container.lines[0].get_xydata()[0] for container in axes.containers
    )
    assert (x, y) == (100.0, pytest.approx(38.9))
    # In the band to the left of the scale.
    assert axes.get_xlim()[0] < x_given < 0
    assert [t.get_text() for t in axes.texts] == ['Random', 'A <b> & |c|']


def test_costs_of_a_wide_range_are_on_a_log_axis():
    rows = [
        dataclasses.replace(
            make_table().rows[0], title=f'R{i}', pretrain=Cost(10.0**i, 'CPU')
        )
        for i in range(3)
    ]
    rows.append(make_table().rows[1])
    axes = axes_of(Table('t', 'T', [BOX], rows), draw=cost_chart.costs)
    assert axes.get_xscale() == 'log'
    x = axes.containers[3].lines[0].get_xdata()[0]
    assert 0 < axes.get_xlim()[0] < x < 1
    assert cost_chart.costs(make_table(), MIOU, {}) is None


def test_labels_of_equal_points_do_not_overlap():
    rows = [
        dataclasses.replace(make_table().rows[0], title=f'R{i}')
        for i in range(8)
    ]
    axes = axes_of(Table('t', 'T', [BOX], rows), draw=cost_chart.costs)
    heights = sorted(text.get_position()[1] for text in axes.texts)
    assert (
        min(b - a for a, b in zip(heights, heights[1:], strict=False)) > 0.06
    )
    assert heights[0] >= 0
    assert heights[-1] <= 1


def test_losses_of_all_pretrainings_once():
    records = [{'step': i, 'loss': 5.0} for i in range(1, 1001)]
    row = dataclasses.replace(
        make_table().rows[0],
        curves={'a-seed0': records, 'a-seed1': records, 'a-seed2': []},
    )
    table = dataclasses.replace(make_table(), rows=[row])
    looks = charts.looks_of([table])
    figure = loss_chart.losses([table, table], looks)
    lines = figure.axes[0].lines
    assert len(lines) == 2
    assert {line.get_color() for line in lines} == {'#332288'}
    assert len({line.get_linestyle() for line in lines}) == 2
    assert lines[0].get_xdata()[-1] == 1000
    assert len(lines[0].get_xdata()) <= 300
    assert lines[0].get_ydata() == pytest.approx(5.0)
    labels = [t.get_text() for t in figure.legends[0].get_texts()]
    assert labels == ['A <b> & |c|', 'seed 0', 'seed 1']
    assert loss_chart.losses([EMPTY], looks) is None


def test_labels_say_what_tells_rows_apart():
    rows = [
        Row(*key, {})
        for key in (
            ('A', 'COCO', 800),
            ('A', 'COCO', 200),
            ('A', 'COCO+', 800),
            ('B', 'COCO', 800),
        )
    ]
    looks = charts.looks_of([Table('t', 'T', [], rows)])
    labels = [look.label for look in looks.values()]
    assert labels == ['A, COCO, 800 epochs', 'A, COCO, 200 epochs'] + [
        'A, COCO+',
        'B',
    ]
    assert len({look.color for look in looks.values()}) == 4


def test_pictures_are_the_same_each_time_with_text_as_text():
    table = make_table()
    looks = charts.looks_of([table])
    first, second = (
        charts.svg(bar_chart.bars(table, BOX, looks), 'name', 'COCO & "AP"')
        for _ in range(2)
    )
    assert first == second
    assert 'A &lt;b&gt; &amp; |c|' in first
    assert 'aria-label="COCO &amp; &quot;AP&quot;"' in first
    assert 'metadata' not in first
    ElementTree.fromstring(first)
