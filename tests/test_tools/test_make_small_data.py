"""The pool of small data: each training image once, no validation image."""

import pytest

from pixcon_mm.errors import UserError
from tests.commands import load_tool
from tests.test_datasets.pictures import write_pictures
from tests.test_evaluation.trees import make_voc


@pytest.fixture
def sets(tmp_path):
    """VOC with images of both lists, COCO, Cityscapes' layout, a folder."""
    make_voc(tmp_path / 'voc', train=2, val=1)
    for folder in (
        *('coco/train2017', 'coco/val2017', 'scenes/x', 'scenes/y'),
        *('cs/leftImg8bit/train/city', 'cs/leftImg8bit/val/town'),
    ):
        write_pictures(tmp_path / folder, 2)
    return dict(voc='voc', coco='coco', camvid='cs', scenes='scenes')


def make(tmp_path, sets, out='out'):
    options = [f'--{name}={tmp_path}/{path}' for name, path in sets.items()]
    out = tmp_path / out
    load_tool('make_small_data').main([*options, f'--out={out}'])
    links = (out / 'pool').rglob('*.*')
    return sorted(str(x.resolve().relative_to(tmp_path)) for x in links)


def test_training_images_of_all_sets_and_no_others(tmp_path, sets):
    expected = sorted(
        ['voc/JPEGImages/train0.jpg', 'voc/JPEGImages/train1.jpg']
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
    del sets['coco'], sets['scenes'], sets['camvid']
    assert make(tmp_path, sets) == expected[-2:]


def test_a_validation_image_in_the_list_is_refused(tmp_path, sets):
    path = tmp_path / 'voc/ImageSets/Segmentation/trainaug.txt'
    path.write_text('train0\nval0\n')
    with pytest.raises(UserError, match=r'1 images of val.txt, such as val0'):
        make(tmp_path, sets)


def test_a_missing_image_is_named(tmp_path, sets):
    (tmp_path / 'voc/JPEGImages/train1.jpg').unlink()
    with pytest.raises(UserError, match=r'1 images are missing.*train1\.jpg'):
        make(tmp_path, sets)


@pytest.mark.parametrize('out', ['scenes', 'scenes/x', ''])
def test_the_pool_and_the_images_are_apart(tmp_path, sets, out):
    """The link to an image would take its place, or be an image itself."""
    if not out:
        (tmp_path / 'scenes').rename(tmp_path / 'pool')
        sets['scenes'] = 'pool/x'
    files = [*tmp_path.rglob('*.png')]
    with pytest.raises(UserError, match='lies inside the other: name'):
        make(tmp_path, sets, out)
    assert [*tmp_path.rglob('*.png')] == files


def test_only_links_are_removed(tmp_path, sets):
    own = tmp_path / 'out/pool/scenes/own.jpg'
    write_pictures(own.parent, 1)
    (own.parent / '000.png').rename(own)
    with pytest.raises(UserError, match=r'own\.jpg is not a link'):
        make(tmp_path, sets)
    own.unlink()
    (tmp_path / 'elsewhere').mkdir()
    pool = tmp_path / 'out/pool'
    pool.rename(tmp_path / 'kept')
    pool.symlink_to(tmp_path / 'elsewhere')
    with pytest.raises(UserError, match='is no folder of this tool'):
        make(tmp_path, sets)


def test_an_empty_list_is_refused(tmp_path, sets):
    (tmp_path / 'voc/ImageSets/Segmentation/trainaug.txt').write_text('\n')
    with pytest.raises(UserError, match='No image of .*JPEGImages is listed'):
        make(tmp_path, sets)
