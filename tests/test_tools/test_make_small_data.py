"""The pool of small data: each training image once, no validation image."""

import pytest

from pixcon_mm.errors import UserError
from tests.commands import load_tool
from tests.test_datasets.pictures import picture, write_pictures


@pytest.fixture
def sets(tmp_path):
    """VOC with images of both lists, COCO, Cityscapes' layout, a folder."""
    lists = tmp_path / 'voc/ImageSets/Segmentation'
    lists.mkdir(parents=True)
    (lists / 'trainaug.txt').write_text('a\nb\n')
    (lists / 'val.txt').write_text('c\n')
    (tmp_path / 'voc/JPEGImages').mkdir()
    for name in 'abc':
        picture().save(tmp_path / f'voc/JPEGImages/{name}.jpg')
    for folder in (
        *('coco/train2017', 'coco/val2017', 'scenes/x', 'scenes/y'),
        *('cs/leftImg8bit/train/city', 'cs/leftImg8bit/val/town'),
    ):
        write_pictures(tmp_path / folder, 2)
    return dict(voc='voc', coco='coco', camvid='cs', scenes='scenes')


def make(tmp_path, sets):
    options = [f'--{name}={tmp_path}/{path}' for name, path in sets.items()]
    out = tmp_path / 'out'
    load_tool('make_small_data').main([*options, f'--out={out}'])
    links = (out / 'pool').rglob('*.*')
    return sorted(str(x.resolve().relative_to(tmp_path)) for x in links)


def test_training_images_of_all_sets_and_no_others(tmp_path, sets):
    expected = sorted(
        ['voc/JPEGImages/a.jpg', 'voc/JPEGImages/b.jpg']
        + [
            f'{folder}/00{i}.png'
            for folder in (
                *('coco/train2017', 'scenes/x', 'scenes/y'),
                'cs/leftImg8bit/train/city',
            )
            for i in range(2)
        ]
    )
    assert make(tmp_path, sets) == expected
    assert make(tmp_path, sets) == expected  # again, over what is there


def test_a_validation_image_in_the_list_is_refused(tmp_path, sets):
    path = tmp_path / 'voc/ImageSets/Segmentation/trainaug.txt'
    path.write_text('a\nc\n')
    with pytest.raises(UserError, match=r'1 images of val.txt, such as c'):
        make(tmp_path, sets)


def test_a_missing_image_is_named(tmp_path, sets):
    (tmp_path / 'voc/JPEGImages/b.jpg').unlink()
    with pytest.raises(UserError, match=r'1 images are missing.*b\.jpg'):
        make(tmp_path, sets)
