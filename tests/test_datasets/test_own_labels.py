"""Own labels: images of any suffix, masks of any values, VOC's files."""

import cv2
import mmdet.datasets  # noqa: F401
import mmseg.datasets  # noqa: F401
import numpy as np
import pytest
from mmseg.datasets.transforms import LoadAnnotations

from pixcon_mm.config import load_config
from pixcon_mm.datasets.listing import images_by_stem
from pixcon_mm.datasets.mask_folder import MaskFolderDataset
from pixcon_mm.datasets.xml_folder import XMLFolderDataset
from pixcon_mm.errors import UserError
from tests import ROOT, benchmarks
from tests.commands import touch

NAMES = ('a.jpg', 'b.PNG', 'c.jpeg', 'sub/d.tif')


@pytest.fixture
def folder(tmp_path):
    """Images of several suffixes, and masks with one value a column."""
    mask = np.array([[0, 85, 170, 255, 7]], np.uint8).repeat(4, 0)
    for name in NAMES:
        image = tmp_path / 'images' / name
        label = (tmp_path / 'masks' / name).with_suffix('.png')
        for path, content in ((image, mask), (label, mask)):
            path.parent.mkdir(parents=True, exist_ok=True)
            assert cv2.imwrite(str(path), content)
    return touch(tmp_path, 'images/notes.txt', 'images/.hidden.png')


def masks(folder, classes='wxyz', **options):
    return MaskFolderDataset(
        data_root=str(folder),
        data_prefix=dict(img_path='images', seg_map_path='masks'),
        metainfo=dict(classes=tuple(classes)),
        **options,
    )


def test_every_image_has_the_mask_of_its_name(folder):
    infos = [masks(folder).get_data_info(i) for i in range(4)]
    for info, name in zip(infos, NAMES, strict=True):
        assert info['img_path'] == f'{folder}/images/{name}'
        stem = name.rpartition('.')[0]
        assert info['seg_map_path'] == f'{folder}/masks/{stem}.png'


@pytest.mark.parametrize(
    ('values', 'expected'),
    [
        (None, [0, 85, 170, 255, 7]),
        ((0, 85, 170, 255), [0, 1, 2, 3, 255]),
        ([7, 0, 255, 85], [1, 3, 255, 2, 0]),
    ],
)
def test_values_of_masks_become_numbers_of_classes(folder, values, expected):
    info = masks(folder, mask_values=values).get_data_info(0)
    loaded = LoadAnnotations()(info)['gt_seg_map']
    assert loaded.tolist() == [expected] * 4


def test_values_and_reduce_zero_label_exclude_each_other(folder):
    values = (0, 85, 170, 255)
    with pytest.raises(UserError, match='leave reduce_zero_label out'):
        masks(folder, mask_values=values, reduce_zero_label=True)


@pytest.mark.parametrize(
    'values',
    [
        (0, 1),
        (0, 1, 2, 3, 4),
        (0, 1, 2, 2),
        (0, 1, 2, 256),
        255,
        [[0, 1, 2, 3]],
    ],
)
def test_each_class_needs_one_value(folder, values):
    with pytest.raises(UserError, match='give each class one value'):
        masks(folder, mask_values=values)


@pytest.mark.parametrize(
    ('file', 'options', 'words'),
    [
        # A mask belongs to one image.
        ('images/a.png', {}, r'a\.(jpg|png) and a\.(jpg|png)'),
        # A list of images is not ignored.
        ('x.txt', dict(ann_file='x.txt'), "list .*x.txt: .*'BaseSegDat"),
    ],
)
def test_folders_that_cannot_be_used(folder, file, options, words):
    touch(folder, file)
    with pytest.raises(UserError, match=words):
        masks(folder, **options)


def test_a_folder_without_images(tmp_path):
    (tmp_path / 'images').mkdir()
    with pytest.raises(UserError, match='images has no image'):
        masks(tmp_path)


def test_boxes_of_voc_beside_images_of_any_suffix(tmp_path):
    path = ROOT / 'configs/detection/faster-rcnn_r50-fpn_custom_voc.py'
    names = ('cat', 'hard hat')
    options = {'classes': names, 'data_root': f'{tmp_path}/'}
    cfg = load_config(str(path), options)
    benchmarks.write_data(cfg, tmp_path)
    images = tmp_path / 'JPEGImages'
    cv2.imwrite(str(images / '000001.PNG'), benchmarks.scene(1))
    (images / '000001.jpg').unlink()
    arguments = dict(cfg.train_dataloader.dataset, pipeline=[])
    assert arguments.pop('type') == 'XMLFolderDataset'
    data = XMLFolderDataset(**arguments)
    assert len(data) == benchmarks.COUNT
    assert data[1]['img_path'].endswith('JPEGImages/000001.PNG')
    x, y, w, h = benchmarks.BOXES[1]
    assert data[0]['instances'][1]['bbox'] == [x, y, x + w - 1, y + h - 1]
    assert data[0]['instances'][1]['bbox_label'] == 1
    (images / '000002.jpg').unlink()
    with pytest.raises(UserError, match='lists 000002, but there is no image'):
        XMLFolderDataset(**arguments)


def test_circles_of_links_and_hidden_folders_are_left_out(tmp_path):
    touch(tmp_path, 'images/a/x.jpg', 'images/y.png', 'other/z.jpg')
    touch(tmp_path, 'images/.ipynb_checkpoints/y.png', 'images/.x.jpg')
    (tmp_path / 'images/a/up').symlink_to('..')
    (tmp_path / 'images/here').symlink_to('.')
    (tmp_path / 'images/link').symlink_to(tmp_path / 'other')
    (tmp_path / 'other/above').symlink_to(tmp_path)
    found = images_by_stem(str(tmp_path / 'images'))
    assert [*found] == ['a/x', 'link/z', 'y']
