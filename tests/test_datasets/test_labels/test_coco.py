"""COCO-style JSON: each problem gives its sentence, and no other."""

import json

import numpy as np
import pytest
from mmdet.datasets import CocoDataset
from PIL import Image
from pycocotools import mask as rle

from pixcon_mm.datasets.labels.coco_objects import (
    count_numbers,
    decode_counts,
)

WIDTH, HEIGHT = 20, 10
NAMES = ('cat', 'dog')
DROP = object()  # in place of a value: without the key
RLE = rle.encode(np.eye(HEIGHT, WIDTH, dtype=np.uint8, order='F'))
RLE = RLE['counts'].decode()


def content():
    """Three images, the last one empty; a cat and a dog in the others."""
    polygon = [2, 2, 8, 2, 8, 6]
    return dict(
        images=[
            dict(id=i, file_name=f'{i}.png', width=WIDTH, height=HEIGHT)
            for i in range(1, 4)
        ],
        annotations=[
            dict(
                id=number,
                image_id=image,
                category_id=category,
                bbox=[2, 2, 6, 4],
                area=12.5,
                iscrowd=0,
                segmentation=[polygon],
            )
            for number, image, category in (
                *((11, 1, 3), (12, 1, 7)),
                *((13, 2, 3), (14, 2, 7)),
            )
        ],
        categories=[dict(id=3, name='cat'), dict(id=7, name='dog')],
    )


def changed(path, value):
    """Put a value at a dotted path, where ``*`` is every entry of a list."""
    data = content()
    *keys, last = (int(k) if k.isdigit() else k for k in path.split('.'))
    nodes = [data]
    for key in keys:
        nodes = [
            child
            for node in nodes
            for child in (node if key == '*' else [node[key]])
        ]
    for node in nodes:
        if value is DROP:
            del node[last]
        else:
            node[last] = value
    return data


def open_set(folder, classes=NAMES, **options):
    return CocoDataset(
        data_root=str(folder),
        ann_file='labels.json',
        data_prefix=dict(img='images/'),
        metainfo=dict(classes=classes),
        **options,
    )


@pytest.fixture
def check(tmp_path, sentences):
    (tmp_path / 'images').mkdir()
    for i in range(1, 4):
        Image.new('L', (WIDTH, HEIGHT)).save(tmp_path / f'images/{i}.png')

    def _check(text, classes=NAMES, needs_masks=True, **options):
        path = tmp_path / 'labels.json'
        data = text if isinstance(text, bytes) else json.dumps(text).encode()
        path.write_bytes(data)
        no_empty = dict(filter_empty_gt=True)
        dataset = open_set(
            tmp_path, classes, filter_cfg=no_empty, lazy_init=True
        )
        return sentences('coco', dataset, needs_masks=needs_masks, **options)

    return _check


@pytest.mark.parametrize('loader', ['train_dataloader', 'val_dataloader'])
def test_a_file_without_problems_is_counted(check, tmp_path, loader):
    data = content()
    data['annotations'][2]['iscrowd'] = data['annotations'][3]['iscrowd'] = 1
    data['annotations'][2]['segmentation'] = dict(
        size=[HEIGHT, WIDTH], counts=[50, 60, 90]
    )
    data['annotations'][1]['segmentation'] = dict(
        size=[HEIGHT, WIDTH], counts=RLE
    )
    found = check(data, loader=loader)
    assert found['stop'] == found['warning'] == []
    assert found['note'] == [
        f'{tmp_path}/labels.json: 3 images, 4 annotations; '
        '1 image without objects, 1 with crowds only.'
    ]


WHOLE = json.dumps(content()).encode()
DEEP = b'[' * 5000 + b'1' + b']' * 5000


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        (b' ', 'is empty'),
        (WHOLE[:200], 'is cut off'),
        (WHOLE[:-3], 'is cut off'),
        (WHOLE.replace(b': 12.5', b' 12.5', 1), "expected ':' (byte "),
        (WHOLE.replace(b'12.5', b'NaN'), 'holds NaN'),
        (WHOLE.replace(b'12.5', b'-Infinity'), 'holds NaN'),
        (b'\xef\xbb\xbf' + WHOLE, "encoding='utf-8-sig'"),
        (WHOLE.decode().encode('utf-16'), "encoding='utf-16'"),
        (WHOLE.replace(b'cat', b'caf\xe9'), 'is not UTF-8'),
        (b'[1, 2]', 'is not in the format of COCO'),
        (b'version https://git-lfs.github.com/spec/v1', 'git lfs pull'),
        (b'\x1f\x8b\x08', 'is compressed'),
        (b'{"images": [{"file_name": "\\ud800.png, an image"}]}', 'surrogate'),
        (b'{"annotations": [{"segmentation": %s}]}' % DEEP, 'recursion'),
    ],
)
def test_files_that_are_not_annotations(check, tmp_path, text, words):
    found = check(text)
    (sentence,) = found['stop']
    assert sentence.startswith(f'{tmp_path}/labels.json')
    assert words in sentence
    assert ('NaN' in sentence) == ('NaN' in words)
    assert found['warning'] == found['note'] == []


def test_the_advice_about_a_byte_order_mark_works(check, tmp_path):
    sentence = check(b'\xef\xbb\xbf' + WHOLE)['stop'][0]
    exec(sentence.partition('-c "')[2].removesuffix('".'))
    assert (tmp_path / 'labels.json').read_bytes() == WHOLE


BOX, IDS = 'annotations.1.bbox', 'annotations.*.image_id'
STOPS = [
    *(
        (part, DROP, f'has no list {part!r}')
        for part in ('images', 'annotations', 'categories')
    ),
    *(
        (f'images.1.{key}', DROP, f'has no {key!r} (the first: id 2): write')
        for key in ('height', 'width', 'file_name')
    ),
    *(
        (f'annotations.1.{key}', DROP, f'has no {key!r} (the first: id 12)')
        for key in ('bbox', 'area', 'category_id', 'image_id')
    ),
    ('images.1.id', DROP, "has no 'id' (the first: file_name '2.png'): write"),
    ('annotations.1.id', DROP, "has no 'id' (the first: image_id 1): write "),
    ('categories.0.name', DROP, "1 of 2 categories has no 'name'"),
    ('categories.0.id', DROP, "1 of 2 categories has no 'id'"),
    ('categories', [], "its list 'categories' has no entry"),
    # Values of another kind. A text is true, for MMDetection.
    ('images.1.width', '20', "a wrong 'width' (the first: id 2, '20'): write"),
    ('annotations.1.iscrowd', '0', "wrong 'iscrowd' (the first: id 12, '0')"),
    ('categories.0.id', [3], "has a wrong 'id'"),
    ('categories.0.name', ['cat'], "has a wrong 'name'"),
    (BOX, 'box', "has a wrong 'bbox' (the first: id 12, 'box')"),
    (BOX, [1, 2, 3], 'id 12 has the bbox [1, 2, 3]'),
    (BOX, [1, 2, 3, '4'], "id 12 has the bbox [1, 2, 3, '4']"),
    ('annotations.*.bbox', [0.1, 0.1, 0.3, 0.4], 'lie between 0 and 1'),
    ('annotations.*.area', 0, 'nothing to learn from'),
    (IDS, '1', "the first: id 11, image_id '1'"),
    (
        'annotations.1.category_id',
        8,
        '1 of 4 annotations has the "category_id" of no category (the first: '
        'id 12, category_id 8)',
    ),
    ('annotations.*.category_id', '3', "id 11, category_id '3'"),
    # Ids and names twice.
    ('images.1.id', 1, '1 image id is given more than once (id 1: 2 times)'),
    ('annotations.1.id', 11, '1 annotation id is given more than once (id 11'),
    ('categories.1.id', 3, '1 category id is given more than once (id 3'),
    ('categories.*.name', 'dog', "2 categories have the name 'dog'"),
]
WARNINGS = [
    (BOX, [2, 2, 0, 4], 'has no area (the first: annotation id 12, [2, 2, 0'),
    (BOX, [2, 2, 6, -4], '1 of 4 boxes has no area'),
    (BOX, [30, 2, 6, 4], '1 of 4 boxes lies outside (the first: '),
    (BOX, [15, 2, 15, 4], 'extends beyond the image'),
    (BOX, [-9, 2, 15, 4], '[-9, 2, 15, 4], in an image of 20 x 10)'),
    ('annotations.*.bbox', [9, 4, 19, 9], 'these may be two corners'),
    ('annotations.1.image_id', 99, 'annotations belongs to images that the'),
]


@pytest.mark.parametrize(('path', 'value', 'words'), STOPS)
def test_what_would_end_a_run(check, path, value, words):
    found = check(changed(path, value))['stop']
    assert any(words in sentence for sentence in found)


@pytest.mark.parametrize(('path', 'value', 'words'), WARNINGS)
def test_what_is_odd(check, path, value, words):
    found = check(changed(path, value))
    (sentence,) = found['warning']
    assert words in sentence
    assert found['stop'] == []


@pytest.mark.parametrize(
    ('value', 'level', 'words'),
    [
        (DROP, 'stop', '1 of 4 annotations has no segmentation'),
        ([], 'stop', '1 of 4 annotations has no segmentation'),
        (None, 'stop', '1 of 4 annotations has no segmentation'),
        ([[1, 2, 3, 4]], 'warning', 'of 4 numbers'),
        ([[1, 2, 3, 4, 5, 6, 7]], 'warning', 'of 7 numbers'),
        ([[1, 2, 9, 4, 5, 6], []], 'warning', 'of 0 numbers'),
        ([1, 2, 3, 4, 5, 6], 'stop', 'not a list of lists'),
        ([['1', '2', '3', '4', '5', '6']], 'stop', 'not a list of lists'),
        ('polygon', 'stop', 'neither polygons nor RLE'),
        (dict(counts='abc'), 'stop', 'neither polygons nor RLE'),
        (dict(size=[10, 20], counts=['a']), 'stop', 'negative or not numbers'),
        (dict(size=[10, 20], counts=[-5, 205]), 'stop', 'negative or not num'),
        # Compressed, which pycocotools would read beyond its end.
        (dict(size=[10, 20], counts='abc'), 'stop', 'not a compressed RLE'),
        (
            dict(size=[10, 20], counts='5\u00e9'),
            'stop',
            'not a compressed RLE',
        ),
        (dict(size=[10, 20], counts=RLE[:6]), 'stop', 'pixels in an image'),
        (dict(size=[10, 20], counts=''), 'stop', 'counts of 0 pixels'),
        (
            dict(size=[20, 10], counts='abc'),
            'stop',
            'size [20, 10] in an image of height 10 and width 20: swapped',
        ),
        (
            dict(size=[10, 20], counts=[5, 5]),
            'stop',
            'counts of 10 pixels in an image of 200',
        ),
    ],
)
def test_segmentations_that_cannot_be_drawn(check, value, level, words):
    data = changed('annotations.1.segmentation', value)
    (sentence,) = check(data)[level]
    assert words in sentence
    assert '(the first: id 12' in sentence
    # A detector of boxes alone does not read them.
    found = check(data, needs_masks=False)
    assert found['stop'] == found['warning'] == []
    if words == 'of 4 numbers':  # nor can pycocotools score two points
        found = check(data, loader='val_dataloader')['stop'][0]
        assert 'fewer than three points' in found


def test_crowds_are_needed_where_labels_are_scored(check):
    data = changed('annotations.*.iscrowd', DROP)
    found = check(data)
    assert "4 of 4 annotations have no 'iscrowd'" in found['warning'][0]
    assert found['stop'] == []
    (sentence,) = check(data, loader='val_dataloader')['stop']
    assert "annotations have no 'iscrowd' (the first: id 11)" in sentence


@pytest.mark.parametrize(
    'polygons', [[], [[]], [[1, 2.5, -3], [4e-5]], [[1] * 8, [2] * 6, [3]]]
)
@pytest.mark.parametrize('indent', [None, 2])
def test_numbers_of_polygons_are_counted(polygons, indent):
    text = json.dumps(polygons, indent=indent).encode()
    assert count_numbers(text) == [len(polygon) for polygon in polygons]


def test_boxes_that_are_left_out_are_those_of_the_data_set(check, tmp_path):
    rng = np.random.default_rng(0)
    data = content()
    data['annotations'] = [
        dict(
            data['annotations'][0],
            id=i,
            image_id=int(rng.integers(1, 4)),
            category_id=int(rng.choice([3, 7, 9])),
            bbox=rng.uniform(-15, 25, 4).round(1).tolist(),
            area=float(rng.choice([0.0, 5.0])),
        )
        for i in range(300)
    ]
    note = check(data)['note'][-1]
    kept = sum(len(d['instances']) for d in open_set(tmp_path))
    assert 0 < kept < 100
    assert f'3 images, {kept} annotations;' in note


@pytest.mark.parametrize('loader', ['train_dataloader', 'val_dataloader'])
@pytest.mark.parametrize(('unknown', 'has_hint'), [(0, True), (1, False)])
def test_annotations_may_count_categories_from_0(
    check, loader, unknown, has_hint
):
    data = content()
    for annotation in data['annotations'][2:]:
        annotation['category_id'] = unknown
    (sentence,) = check(data, loader=loader)['stop']
    assert '2 of 4 annotations have' in sentence
    assert ('may count from 0' in sentence) == has_hint


def test_images_that_are_not_there(check, tmp_path):
    (tmp_path / 'images/2.png').unlink()
    (sentence,) = check(content())['stop']
    # The third one is empty and not read.
    assert '1 of 2 images is not there (the first: id 2, ' in sentence
    assert f'{tmp_path}/images/2.png' in sentence
    (tmp_path / 'images/3.png').unlink()
    (sentence,) = check(content(), loader='val_dataloader')['stop']
    assert '2 of 3 images are not there' in sentence


def test_images_that_are_none_or_of_another_size(check, tmp_path):
    path, exif = tmp_path / 'images/2.png', Image.Exif()
    exif[0x0112] = 6  # a turned photograph, whose upright size counts
    Image.new('RGB', (HEIGHT, WIDTH)).save(path, exif=exif)
    assert check(content())['warning'] == []
    Image.new('L', (40, 20)).save(path)
    (sentence,) = check(content())['warning']
    assert f'{path}, 40 x 20 and not 20 x 10' in sentence
    path.write_bytes(b'not an image')
    (sentence,) = check(content())['stop']
    assert '1 of 2 images cannot be read' in sentence
    assert f'{path}, cannot identify image file' in sentence


def test_all_of_an_image_is_decoded(check, tmp_path):
    """Unless the check is of a sample, which reads headers alone."""
    pixels = np.random.default_rng(0).integers(256, size=(HEIGHT, WIDTH, 3))
    path = tmp_path / 'images/2.png'
    image = Image.fromarray(pixels.astype(np.uint8))
    image.save(path, format='JPEG', quality=95)
    whole = path.read_bytes()
    assert check(content())['warning'] == []
    path.write_bytes(whole[:-200] + whole[-2:])
    assert check(content(), sample=9)['warning'] == []
    (sentence,) = check(content())['warning']
    assert '1 of 2 images is damaged' in sentence
    assert f'{path}, Corrupt JPEG data' in sentence
    image.save(path, format='PCX')  # of which Pillow reads the header
    assert check(content(), sample=9)['stop'] == []
    (sentence,) = check(content())['stop']
    assert f'{path}, OpenCV cannot decode it' in sentence


@pytest.mark.parametrize('share', [0, 0.1, 0.5, 0.9, 1])
def test_compressed_counts_are_those_of_pycocotools(share):
    mask = np.random.default_rng(0).random((37, 53)) < share
    encoded = rle.encode(np.asfortranarray(mask, np.uint8))
    pixels = mask.flatten(order='F')
    # A run of zeros comes first, perhaps an empty one.
    ends = np.flatnonzero(np.diff(pixels, prepend=False))
    runs = np.diff([0, *ends, pixels.size])
    assert decode_counts(encoded['counts'].decode()) == runs.tolist()


@pytest.mark.parametrize(
    ('classes', 'level', 'words'),
    [
        (('bird', 'cow'), 'stop', "names of the config: 'bird' and 'cow'"),
        (('bird', 'cow'), 'stop', '--cfg-options classes=cat,dog'),
        (('Cat', 'Dog'), 'stop', "Is 'Cat' the 'cat' of the file?"),
        (('cat',), 'note', '1 of 2 categories is left out, as no class'),
        (('cat', 'dog', 'cow'), 'stop', "class name 'cow', and"),
        (('cat', 'dogs'), 'stop', "Is 'dogs' the 'dog' of the file?"),
        (('dogs', 'cow'), 'stop', '--cfg-options classes=cat,dog'),
        (('cat', 'cow'), 'stop', '--cfg-options classes=cat'),
        (('dog', 'cat'), 'stop', 'another order than the class names'),
        (('dog', 'cat'), 'stop', '--cfg-options classes=cat,dog'),
    ],
)
def test_class_names_and_categories(check, classes, level, words):
    assert words in check(content(), classes)[level][0]


@pytest.mark.parametrize(
    ('first', 'level'), [(0, 'warning'), ('0', 'warning'), ('a-1', 'stop')]
)
def test_ids_that_pycocotools_cannot_score(check, first, level):
    data = changed('annotations.0.id', first)
    found = check(data)
    assert found['stop'] == found['warning'] == []
    found = check(data, loader='val_dataloader')
    assert [*map(len, (found['stop'], found['warning']))] == (
        [1, 0] if level == 'stop' else [0, 1]
    )
    assert 'pycocotools' in found[level][0]


def test_advice_about_names_with_commas(check):
    data = content()
    data['categories'][0]['name'] = 'cat, large'
    data['categories'][1]['name'] = 'dog, large'
    (sentence,) = check(data)['stop']
    assert "classes = ('cat, large', 'dog, large') in a config" in sentence


def test_an_image_of_more_pixels_than_pillow_allows(check, monkeypatch):
    monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', WIDTH * HEIGHT // 3)
    assert check(content())['stop'] == []
    assert Image.MAX_IMAGE_PIXELS == WIDTH * HEIGHT // 3
