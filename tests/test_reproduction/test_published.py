"""Published numbers: what the file may hold, and what is found in it."""

import pytest

from pixcon_mm.errors import UserError
from reproduction.plan import read_plan
from reproduction.published import (
    PublishedNumber,
    RowKey,
    find,
    find_other_rows,
    read_published,
)
from tests import ROOT

PLAN = read_plan(ROOT / 'plans/paper.yaml')
COCO, VOC = PLAN.benchmarks['coco'], PLAN.benchmarks['voc0712']
OTHER = COCO.model_copy(update={'protocol': 'Mask R-CNN R50-FPN 1x'})
NUMBERS = read_published(ROOT / PLAN.published)
HEADER = ','.join(PublishedNumber.model_fields)
GOOD = 'b,"p, q",M,COCO,800,AP,56.7,"A, B: C"'


def read(tmp_path, *lines, header=HEADER):
    path = tmp_path / 'n.csv'
    path.write_text('\n'.join([header, *lines]) + '\n')
    return read_published(path)


def test_lines(tmp_path):
    # Empty fields, blank lines, an unknown column, a spreadsheet's encoding.
    lines = [GOOD + ',n', '', 'b,p,M,-,,AP,,not available here,n', '']
    path = tmp_path / 'n.csv'
    text = '\r\n'.join([HEADER + ',note', *lines])
    path.write_bytes(b'\xef\xbb\xbf' + text.encode())
    first, second = read_published(path)
    assert first.row == ('M', 'COCO', 800)
    assert (first.protocol, first.value) == ('p, q', 56.7)
    assert first.source == 'A, B: C'
    assert (second.epochs, second.value) == (None, None)


@pytest.mark.parametrize(
    ('line', 'reason'),
    [
        ('b,p,M,COCO,800,AP,5x,s', "value: .*number.*not '5x'"),
        ('b,p,M,COCO,800,AP,nan,s', 'value: .*finite number'),
        ('b,p,M,COCO,800 e,AP,5,s', "epochs: .*integer.*not '800 e'"),
        ('b,p,M,COCO,800,AP,5', 'too few fields'),
        ('b,p,M,COCO,800,AP,5,Zhu, Fu', 'too many or too few'),
        ('b,p,M,COCO,800,AP,5,', 'source: .*at least 1 character'),
        ('b,,M,COCO,800,AP,5,s', 'protocol: .*at least 1 character'),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path, line, reason):
    with pytest.raises(UserError, match=f'{tmp_path}/n.csv:3.*{reason}'):
        read(tmp_path, GOOD, line)


def test_files_that_are_not_a_table(tmp_path):
    for field in ('"p"q', '"p'):
        with pytest.raises(UserError, match=r'not valid CSV after line \d'):
            read(tmp_path, GOOD, f'b,{field},M,COCO,800,AP,5,s')
    header = HEADER.replace('source', 'sourc')
    with pytest.raises(UserError, match="n.csv:1 lacks the column 'source'"):
        read(tmp_path, GOOD, header=header)
    with pytest.raises(UserError, match="lacks the column 'benchmark'"):
        read(tmp_path, header='')
    with pytest.raises(UserError, match='There is no file of published'):
        read_published(tmp_path / 'no.csv')
    (tmp_path / 'n.csv').write_bytes(b'\xff\xfe\x00')
    with pytest.raises(UserError, match='not UTF-8 text'):
        read_published(tmp_path / 'n.csv')


@pytest.mark.parametrize(
    ('benchmark', 'metric', 'row', 'values'),
    [
        (COCO, 'coco/bbox_mAP', ('DenseCL', 'COCO', 800), [39.6]),
        (VOC, 'pascal_voc/mAP', ('DenseCL', 'COCO', 800), [56.7]),
        # One for each source.
        (VOC, 'pascal_voc/mAP', ('MoCo-v2', 'COCO', 800), [53.7, 54.7]),
        # A line without epochs fits any.
        (VOC, 'pascal_voc/mAP', ('Supervised', 'ImageNet', 90), [53.3]),
        (VOC, 'pascal_voc/mAP', ('Supervised', 'ImageNet', None), [53.3]),
        (COCO, 'coco/bbox_mAP', ('MoCo-v2+', 'COCO', 800), []),
        (COCO, 'coco/bbox_mAP', ('DenseCL', 'COCO+', 800), []),
        (COCO, 'coco/bbox_mAP', ('DenseCL', 'COCO', 400), []),
        (COCO, 'coco/bbox_mAP', ('DenseCL', 'COCO', None), []),
        (VOC, 'pascal_voc/mAP', ('BYOL', 'COCO', 800), []),  # only a re-run
        (OTHER, 'coco/bbox_mAP', ('DenseCL', 'COCO', 800), []),
    ],
)
def test_known_numbers(benchmark, metric, row, values):
    found = find(NUMBERS, benchmark, benchmark.metrics[metric], RowKey(*row))
    assert [number.value for number in found] == values


def test_other_rows():
    known = [
        RowKey('Random', '-', None),
        RowKey('Supervised', 'ImageNet', 90),
        RowKey('MoCo-v2+', 'COCO', 800),
        RowKey('DenseCL', 'COCO', 800),
    ]
    # Without PixCon, whose lines are empty.
    assert find_other_rows(NUMBERS, [VOC], known) == [
        ('BYOL (re-run)', 'COCO', 800),
        ('Self-EMD', 'COCO', 800),
        ('MoCo-v2', 'COCO', 800),
        ('MLS', 'COCO', 800),
    ]
    everything = find_other_rows(NUMBERS, [VOC], [])
    assert ('Supervised', 'ImageNet', None) in everything
    orl = find_other_rows(NUMBERS, [COCO], [RowKey('ORL', 'COCO', 800)])
    assert ('ORL', 'COCO', 1600) in orl
    segmentation = [PLAN.benchmarks[n] for n in ('cityscapes', 'voc12aug')]
    assert find_other_rows(NUMBERS, segmentation, []) == []


def test_the_projects_file_invents_nothing():
    pixcon = [n for n in NUMBERS if n.method.startswith('PixCon')]
    assert len(pixcon) == 32
    empty = {(n.value, n.source) for n in pixcon}
    assert empty == {(None, 'not available here')}
    others = [n.value for n in NUMBERS if n not in pixcon]
    # A share of 1 in place of percent would be below.
    assert all(value is not None and 25 < value < 85 for value in others)
    assert len({*NUMBERS}) == len(NUMBERS)
