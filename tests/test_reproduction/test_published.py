"""Published numbers: what the file may hold, and what is found in it."""

import csv
from pathlib import Path

import pytest

from pixcon_mm.errors import UserError
from reproduction.published import (
    COLUMNS,
    Number,
    find,
    others,
    read_published,
)
from reproduction.results import Published

ROOT = Path(__file__).resolve().parents[2]
FPN = ('coco', 'Mask R-CNN R50-FPN 1x (90k)')
VOC = ('voc0712_det', 'Faster R-CNN R50-C4 24k')
HEADER = ','.join(COLUMNS)
GOOD = 'b,"p, q",M,COCO,800,AP,56.7,"A, B: C"'
MLS = (
    'Zhu, Fu, Wu: Multi-Label Self-Supervised Learning with Scene Images '
    'Table '
)


@pytest.fixture(scope='module')
def numbers():
    return read_published(ROOT / 'plans/published.csv')


def read(tmp_path, *lines, header=HEADER):
    path = tmp_path / 'n.csv'
    path.write_text('\n'.join([header, *lines]) + '\n')
    return read_published(path)


def test_a_line(tmp_path):
    assert read(tmp_path, GOOD) == [
        Number('b', 'p, q', 'M', 'COCO', 800, 'AP', 56.7, 'A, B: C')
    ]


def test_empty_fields_and_blank_lines(tmp_path):
    (number,) = read(tmp_path, '', 'b,p,M,-,,AP,,not available here', '')
    assert number.epochs is None
    assert number.value is None


def test_a_spreadsheets_file(tmp_path):
    path = tmp_path / 'n.csv'
    text = '\r\n'.join([HEADER + ',note', GOOD + ',n', ''])
    path.write_bytes(b'\xef\xbb\xbf' + text.encode())
    assert read_published(path)[0].value == 56.7


@pytest.mark.parametrize(
    ('line', 'says'),
    [
        ('b,p,M,COCO,800,AP,5x,s', "value '5x' that is no number"),
        ('b,p,M,COCO,800,AP,nan,s', "value 'nan' that is no number"),
        ('b,p,M,COCO,800 e,AP,5,s', "pretrain_epochs '800 e'"),
        ('b,p,M,COCO,800,AP,5', 'too few fields'),
        ('b,p,M,COCO,800,AP,5,Zhu, Fu', 'too many fields'),
        ('b,p,M,COCO,800,AP,5,', 'has no source'),
        ('b,,M,COCO,800,AP,5,s', 'has no protocol'),
    ],
)
def test_mistakes_are_named_with_their_line(tmp_path, line, says):
    with pytest.raises(UserError) as caught:
        read(tmp_path, GOOD, line)
    assert str(caught.value).startswith(f'{tmp_path}/n.csv:3 ')
    assert says in str(caught.value)


@pytest.mark.parametrize('field', ['"p"q', '"p'])
def test_wrong_quotes_are_named_with_their_place(tmp_path, field):
    with pytest.raises(UserError, match=r'n.csv is no CSV file after line \d'):
        read(tmp_path, GOOD, f'b,{field},M,COCO,800,AP,5,s')


def test_a_missing_column_is_named(tmp_path):
    header = HEADER.replace('source', 'sourc')
    with pytest.raises(UserError, match="n.csv:1 lacks the column 'source'"):
        read(tmp_path, GOOD, header=header)


def test_an_empty_file_and_none(tmp_path):
    with pytest.raises(UserError, match="lacks the column 'benchmark'"):
        read(tmp_path, header='')
    with pytest.raises(UserError, match='There is no file of published'):
        read_published(tmp_path / 'no.csv')


def test_no_text(tmp_path):
    path = tmp_path / 'n.csv'
    path.write_bytes(b'\xff\xfe\x00')
    with pytest.raises(UserError, match='no text in UTF-8'):
        read_published(path)


def test_known_numbers(numbers):
    assert find(numbers, *FPN, 'DenseCL', 'COCO', 800, 'bbox_mAP') == [
        Published(39.6, MLS + '1')
    ]
    assert find(numbers, *VOC, 'DenseCL', 'COCO', 800, 'AP') == [
        Published(56.7, 'README of WXinlong/DenseCL (mean of 5)')
    ]


def test_every_source_is_given(numbers):
    found = find(numbers, *VOC, 'MoCo-v2', 'COCO', 800, 'AP')
    assert [p.value for p in found] == [53.7, 54.7]


def test_a_line_without_epochs_fits_any(numbers):
    for epochs in (90, None):
        assert find(numbers, *VOC, 'Supervised', 'ImageNet', epochs, 'AP') == [
            Published(53.3, MLS + '4')
        ]


@pytest.mark.parametrize(
    'cell',
    [
        (*FPN, 'MoCo-v2+', 'COCO', 800, 'bbox_mAP'),
        (*FPN, 'DenseCL', 'COCO+', 800, 'bbox_mAP'),
        (*FPN, 'DenseCL', 'COCO', 400, 'bbox_mAP'),
        (*FPN, 'DenseCL', 'COCO', None, 'bbox_mAP'),
        (*FPN, 'DenseCL', 'COCO', 800, 'AP'),
        ('coco', 'Mask R-CNN R50-FPN 1x', 'DenseCL', 'COCO', 800, 'bbox_mAP'),
        (*VOC, 'BYOL', 'COCO', 800, 'AP'),  # there is a re-run only
        ('voc12aug_seg', 'FCN-d6 R50-d16 30k', 'DenseCL', 'COCO', 800, 'mIoU'),
    ],
)
def test_nothing_else_fits(numbers, cell):
    assert find(numbers, *cell) == []


def test_others(numbers):
    known = [
        ('Random', '-', None),
        ('Supervised', 'ImageNet', 90),
        ('MoCo-v2+', 'COCO', 800),
        ('DenseCL', 'COCO', 800),
        ('PixCon-SR', 'COCO', 800),
    ]
    assert others(numbers, *VOC, known) == [
        ('BYOL (re-run)', 'COCO', 800),
        ('Self-EMD', 'COCO', 800),
        ('MoCo-v2', 'COCO', 800),
        ('MLS', 'COCO', 800),
    ]
    assert ('Supervised', 'ImageNet', None) in others(numbers, *VOC, [])


def test_others_leave_out_what_has_no_value(numbers):
    # PixCon's lines are empty.
    names = [method for method, _, _ in others(numbers, *VOC, [])]
    assert not [name for name in names if name.startswith('PixCon')]
    assert others(numbers, 'cityscapes_seg', 'FCN-d6 R50-d16 90k', []) == []


def test_another_length_is_another_row(numbers):
    found = others(numbers, *FPN, [('ORL', 'COCO', 800)])
    assert ('ORL', 'COCO', 1600) in found


def test_the_projects_file_invents_nothing(numbers):
    pixcon = [n for n in numbers if n.method.startswith('PixCon')]
    assert len(pixcon) == 32
    assert {(n.value, n.source) for n in pixcon} == {
        (None, 'not available here')
    }
    assert all(n.value is not None for n in numbers if n not in pixcon)
    # A share of 1 in place of percent would be below.
    assert all(25 < n.value < 85 for n in numbers if n.value is not None)


def test_the_projects_file_has_no_line_twice(numbers):
    with (ROOT / 'plans/published.csv').open(newline='') as file:
        lines = [tuple(line) for line in csv.reader(file)]
    assert len({*lines}) == len(lines) == len(numbers) + 1
