"""Tests of object discovery on scenes whose object is known."""

import json

import numpy as np
import pytest
import torch

from pixcon_mm.errors import UserError
from pixcon_mm.evaluation.discovery import (
    find_object,
    is_found,
    read_objects,
)
from tests.benchmarks import coco_json, voc_object, voc_xml
from tests.commands import touch


@pytest.mark.parametrize(
    'box', [(1, 2, 4, 5), (0, 0, 3, 3), (6, 4, 10, 8), (9, 7, 10, 8)]
)
def test_an_object_unlike_its_surroundings_is_found(box):
    x1, y1, x2, y2 = box
    ground, thing = torch.randn(2, 16).abs()
    features = ground.view(16, 1, 1) + 0.02 * torch.randn(16, 8, 10)
    features[:, y1:y2, x1:x2] += (thing - ground).view(16, 1, 1)
    shares = np.array(find_object(features.clamp(min=0)))
    assert (shares * [10, 8, 10, 8]).tolist() == pytest.approx(list(box))


def test_a_second_object_apart_from_the_first_stays_outside():
    features = torch.zeros(3, 9, 9)
    features[0] = 1
    for box in ((1, 1, 3, 3), (6, 6, 8, 8)):
        features[:, box[1] : box[3], box[0] : box[2]] = torch.tensor(
            [0.0, 1, 0]
        ).view(3, 1, 1)
    found = np.array(find_object(features)) * 9
    assert found.tolist() == pytest.approx([1, 1, 3, 3])


def test_equal_features_give_a_cell_and_no_error():
    box = find_object(torch.ones(4, 5, 5))
    assert box == (0, 0, 0.2, 0.2)


def test_a_box_counts_from_half_its_union():
    truth = np.array([[0.0, 0, 10, 10], [50, 50, 60, 60]])
    assert is_found((0, 0, 10, 5.1), truth)
    assert not is_found((0, 0, 10, 5), truth)
    assert is_found((50, 50, 60, 60), truth)


@pytest.mark.parametrize(
    ('mark', 'is_object'),
    [({}, True), (None, True), (0, True), (False, True), (1, False)],
)
def test_boxes_of_coco_are_of_objects_not_marked_as_crowds(
    mark, is_object, tmp_path
):
    touch(tmp_path, 'annotations/a', 'val2017/3.jpg', 'val2017/4.jpg')
    objects = [(image, 1, (1, 2, 10, 20)) for image in (3, 4)]
    content = coco_json({3: '3.jpg', 4: '4.jpg'}, objects, ['cat'])
    del content['annotations'][1]['iscrowd']
    if mark != {}:
        content['annotations'][1]['iscrowd'] = mark
    file = tmp_path / 'annotations/instances_val2017.json'
    file.write_text(json.dumps(content))
    paths, boxes, sizes = zip(*read_objects(tmp_path), strict=True)
    names = ['3.jpg', '4.jpg'][: 1 + is_object]
    assert paths == tuple(tmp_path / 'val2017' / name for name in names)
    assert [box.tolist() for box in boxes] == [[[1, 2, 11, 22]]] * len(names)


def test_boxes_of_voc(tmp_path):
    voc = tmp_path / 'voc'
    touch(voc, 'ImageSets/Main/a', 'Annotations/a', 'JPEGImages/a.jpg')
    (voc / 'ImageSets/Main/trainval.txt').write_text('a\nb\na\n')
    boxes = ((1, 2, 30, 40), (5, 6, 7, 8))
    # Difficult ones are objects, too.
    objects = [voc_object('cat', box, i) for i, box in enumerate(boxes)]
    (voc / 'Annotations/a.xml').write_text(voc_xml(*objects))
    (voc / 'Annotations/b.xml').write_text(voc_xml())
    ((path, boxes, size),) = read_objects(voc)
    assert path == voc / 'JPEGImages/a.jpg'
    assert boxes.tolist() == [[0, 1, 30, 40], [4, 5, 7, 8]]
    (voc / 'Annotations/b.xml').write_text('<')
    with pytest.raises(UserError, match='b.xml'):
        read_objects(voc)
    with pytest.raises(UserError, match='needs boxes'):
        read_objects(tmp_path)
