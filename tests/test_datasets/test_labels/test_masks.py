"""Label maps: each problem gives its sentence."""

import numpy as np
import pytest
from mmseg.datasets import BaseSegDataset
from PIL import Image

from pixcon_mm.datasets.labels.mask_values import labels_of_values
from pixcon_mm.datasets.mask_folder import MaskFolderDataset

NAMES = ('ground', 'cat', 'dog')
SHAPE = (8, 12)


@pytest.fixture
def check_set(tmp_path, sentences):
    """Check what is below the folders of images and masks."""

    def _check_set(kind=BaseSegDataset, use=(), masks='masks', **options):
        dataset = kind(
            data_root=str(tmp_path),
            data_prefix=dict(img_path='images', seg_map_path=masks),
            metainfo=dict(classes=options.pop('classes', NAMES)),
            lazy_init=True,
            **options,
        )
        return sentences('masks', dataset, **dict(use))

    return _check_set


@pytest.fixture
def check(tmp_path, check_set):

    def _check(masks, suffix='.png', **options):
        for folder in ('images', 'masks'):
            (tmp_path / folder).mkdir(exist_ok=True)
        for i, mask in enumerate(masks):
            size = SHAPE[::-1]
            Image.new('RGB', size).save(tmp_path / f'images/{i}.jpg')
            if mask is not None:
                picture = Image.fromarray(np.asarray(mask))
                picture.save(tmp_path / f'masks/{i}{suffix}')
        uses = ('loader', 'num_classes', 'sample')
        use = {name: options.pop(name) for name in uses if name in options}
        return check_set(use=use, **{'seg_map_suffix': suffix, **options})

    return _check


def filled(*values):
    """A mask with stripes of these values."""
    columns = np.resize(np.repeat(values, 2), SHAPE[1])
    return np.tile(columns, (SHAPE[0], 1)).astype(np.uint8)


@pytest.mark.parametrize(
    ('values', 'mask_values', 'level', 'words'),
    [
        ((0, 85, 255), None, 'stop', 'classes: mask_values=0,85,255'),
        ((0, 20, 85, 255), None, 'stop', 'example: mask_values=0,20,85 ('),
        ((0, 85, 170, 255), None, 'stop', 'example: mask_values=0,85,170 ('),
        ((1, 2, 3, 255), None, 'stop', 'count from 1: mask_values=1,2,3 ('),
        ((0, 1, 2, 3), None, 'stop', '0 is not a class: mask_values=1,2,3 ('),
        ((0, 255), None, 'stop', 'mask_values=0,255 (docs/your_data.md)'),
        ((0, 85, 255), (0, 85, 255), 'note', '1 mask, all opened'),
        ((0, 85, 7), (0, 85, 99), 'warning', '33.3% of the pixels are ignor'),
        ((0, 85, 255), (0, 85), 'stop', 'give each class one value'),
    ],
)
def test_values_that_the_config_lists(
    check, check_set, values, mask_values, level, words
):
    check([filled(*values)])
    found = check_set(MaskFolderDataset, mask_values=mask_values)
    assert words in found[level][0]


def test_masks_without_problems(check, tmp_path):
    found = check([filled(0, 1), filled(0, 2), filled(255, 1)])
    assert found['stop'] == found['warning'] == []
    assert found['note'] == [f'{tmp_path}/masks: 3 masks, all opened.']


def test_a_sample_is_stated(check, tmp_path):
    found = check([filled(0, 1, 2)] * 5, sample=2)
    assert '5 masks, 2 of them opened' in found['note'][0]
    assert '--all' in found['note'][0]


def test_missing_masks_and_suffixes(check, tmp_path):
    masks = [filled(0, 1, 2), None, filled(0, 1, 2)]
    (sentence,) = check(masks)['stop']
    assert f'1 of 3 masks is not there (the first: {tmp_path}/masks/1.png' in (
        sentence
    )
    (sentence,) = check(masks[:1], seg_map_suffix='_gt.png')['stop']
    assert "There is '0.png': set seg_map_suffix." in sentence


def test_a_link_to_nowhere_is_not_there(check, check_set, tmp_path):
    check([filled(0, 1, 2)] * 2)
    path = tmp_path / 'images/0.jpg'
    path.unlink()
    path.symlink_to('nowhere.jpg')
    (sentence,) = check_set(MaskFolderDataset)['stop']
    assert f'1 of 2 images is not there (the first: {path}):' in sentence
    assert sentence.endswith('remove them from the set.')


def test_images_that_are_listed_twice(check, tmp_path):
    (tmp_path / 'list.txt').write_text('0\n1\n0\n')
    masks = [filled(0, 1, 2)] * 2
    (warning,) = check(masks, ann_file='list.txt')['warning']
    assert '1 of 2 images is listed more than once' in warning


def test_listed_images_that_do_not_exist(check, tmp_path):
    (tmp_path / 'list.txt').write_text('0\n7\n')
    found = check([filled(0, 1, 2)], ann_file='list.txt')
    assert ': 1 of 2 images is not' in found['stop'][0]


@pytest.mark.parametrize(
    ('names', 'words'),
    [
        (b'', 'names no image'),
        (b'caf\xe9\n', 'invalid continuation byte): it must be UTF-8'),
        (b'\xef\xbb\xbf0\n', 'list.txt begins with a byte order mark'),
        (b'0\n\n', 'list.txt: line 2 is empty'),
    ],
)
def test_lists_that_cannot_be_read(check, tmp_path, names, words):
    (tmp_path / 'list.txt').write_bytes(names)
    (sentence,) = check([filled(0, 1, 2)], ann_file='list.txt')['stop']
    assert words in sentence


@pytest.fixture
def mixed(tmp_path, check_set):
    """Check a set of four .jpg images, with three others among them."""
    for folder in ('images', 'masks'):
        (tmp_path / folder).mkdir()
    for name in ('1.jpg', '2.jpg', 'a.png', 'b.png', 'c.JPG', 'notes.txt'):
        (tmp_path / 'images' / name).touch()
    return check_set


def test_images_with_another_suffix_are_counted(mixed):
    (sentence,) = mixed()['warning']
    assert 'has images that are left out (2 .png, 1 .JPG)' in sentence
    assert "takes files that end in '.jpg', the img_suffix" in sentence
    assert '(2 .jpg, 1 .JPG)' in mixed(img_suffix='.png')['warning'][0]
    (sentence,) = mixed(img_suffix='.bmp')['stop']
    assert 'is empty' in sentence
    assert "no file that ends in '.bmp'" in sentence


def test_a_folder_of_any_suffix_counts_the_others(mixed, tmp_path):
    (tmp_path / 'images/d.jfif').touch()
    assert mixed(MaskFolderDataset)['warning'] == []
    for name in ('e.GIF', 'f.heic'):
        (tmp_path / 'images' / name).touch()
    (sentence,) = mixed(MaskFolderDataset)['warning']
    assert 'has images that are left out (1 .gif, 1 .heic)' in sentence
    assert 'img_suffix' not in sentence


def test_links_to_folders_are_followed(check, check_set, tmp_path):
    check([filled(0, 1, 2)])
    for name in ('images', 'masks'):
        (tmp_path / name).rename(tmp_path / f'other-{name}')
        (tmp_path / name).mkdir()
        (tmp_path / name / 'city').symlink_to(tmp_path / f'other-{name}')
    found = check_set(seg_map_suffix='.png')
    assert found['stop'] == []
    assert '1 mask, all opened' in found['note'][0]


def test_what_is_left_out_on_purpose_is_not_counted(mixed, tmp_path):
    (tmp_path / 'list.txt').touch()
    assert mixed(ann_file='list.txt')['warning'] == []
    # Label maps beside the images.
    (tmp_path / 'images/c.JPG').unlink()
    assert mixed(masks='images')['warning'] == []


def test_an_empty_set_is_checked_again(mixed, tmp_path):
    assert mixed(img_suffix='.webp')['stop']
    (tmp_path / 'images/1.webp').touch()
    assert 'is empty' not in mixed(img_suffix='.webp')['stop'][0]


@pytest.mark.parametrize(
    ('mask', 'words'),
    [
        (np.stack([filled(0, 1, 2)] * 3, 2), 'RGB with three equal channels'),
        (
            np.stack([filled(0), filled(0, 9), filled(0, 7)], 2),
            'is RGB (with the colours (0, 0, 0)',
        ),
        (np.stack([filled(1)] * 2, 2), 'grey with transparency'),
        (filled(0).astype(np.uint16) + 300, 'from 300 to 300'),
        (filled(0).astype(np.float32) + 0.5, 'holds float32'),
    ],
)
def test_images_that_are_not_label_maps(check, tmp_path, mask, words):
    suffix = '.tif' if mask.dtype == np.float32 else '.png'
    (sentence,) = check([mask, mask], suffix=suffix)['stop']
    start = f'{tmp_path}/masks: 2 of 2 masks cannot be used'
    assert sentence.startswith(start)
    assert f'{tmp_path}/masks/0{suffix}' in sentence
    assert words in sentence


def test_a_damaged_mask(check, tmp_path):
    check([filled(0, 1, 2)])
    path = tmp_path / 'masks/0.png'
    whole = path.read_bytes()
    path.write_bytes(whole[:40])
    assert f'{path}, cannot be read' in check([None])['stop'][0]
    # A header that is too short, which Pillow reports in its own way.
    path.write_bytes(whole[:8] + (8).to_bytes(4, 'big') + whole[12:])
    assert 'cannot be read (ValueError: ' in check([None])['stop'][0]


def test_a_mask_whose_end_is_lost(check, tmp_path):
    """Pillow would fill the rest of the picture without a word."""
    masks = np.random.default_rng(0).integers(3, size=(1, 64, 96))
    check(masks.astype(np.uint8))
    Image.new('RGB', (96, 64)).save(tmp_path / 'images/0.jpg')
    assert check([])['stop'] == []
    path = tmp_path / 'masks/0.png'
    content = bytearray(path.read_bytes())
    half = len(content) // 2
    content[half:-12] = bytes(len(content) - half - 12)
    path.write_bytes(content)
    (sentence,) = check([])['stop']
    assert f'{path}, cannot be read (chunk IDAT of the PNG' in sentence


def test_a_mask_of_more_pixels_than_pillow_opens(check, monkeypatch):
    monkeypatch.setattr('pixcon_mm.datasets.labels.masks.MOST_PIXELS', 95)
    assert 'cut image and mask' in check([filled(0, 1, 2)])['stop'][0]


def test_masks_of_another_size(check, tmp_path):
    masks = [filled(0, 1, 2), filled(0, 1, 2)[:5]]
    (sentence,) = check(masks)['stop']
    shown = f'{tmp_path}/masks/1.png, 12 x 5, its image 12 x 8'
    start = '1 of 2 masks differs in size from the image (the first: '
    assert f'{start}{shown}' in sentence


TWO, REDUCED = dict(classes=NAMES[:2]), dict(reduce_zero_label=True)


@pytest.mark.parametrize(
    ('values', 'options', 'words'),
    [
        ((0, 1, 9), {}, 'masks/0.png has the value 9 (33.3% of its pixels)'),
        ((0, 1, 2), dict(num_classes=2), 'the numbers 0 to 1 (255 is'),
        ((1, 2, 3), {}, 'count from 1, set reduce_zero_label=True'),
        ((0, 1, 2, 3), {}, 'If 0 is not a class, set reduce_zero_label=True'),
        ((0, 85, 170), {}, 'shades for 3 classes: divide them by 85'),
        # All pixels in one class, or in none.
        ((0, 255), TWO, 'class 0 is the only one in the 2 masks'),
        ((0, 255), TWO, 'write 1 for 255'),
        ((0, 255), {**TWO, 'loader': 'test_dataloader'}, 'write 1 for 255'),
        ((255,), {}, 'every pixel is ignored, as 255 is ignored'),
        ((0,), REDUCED, 'reduce_zero_label=True turns 0 into 255'),
        ((0, 1), REDUCED, 'If 0 is a class, set reduce_zero_label=False'),
    ],
)
def test_values_that_do_not_fit(check, values, options, words):
    (sentence,) = check([filled(*values)] * 2, **options)['stop']
    assert words in sentence


def test_many_values_come_from_interpolation(check):
    mask = np.arange(96, dtype=np.uint8).reshape(SHAPE)
    (sentence,) = check([mask])['stop']
    assert 'resizing with interpolation or from JPEG' in sentence


def test_only_one_class_is_odd_where_nothing_is_learned(check):
    assert 'class 1 is the only one' in check([filled(1)])['stop'][0]
    for trial in (dict(loader='val_dataloader'), dict(indices=1)):
        found = check([filled(1)], **trial)
        assert 'class 1 is the only one' in found['warning'][0]
        assert found['stop'] == []


def test_a_mask_that_is_ignored_as_a_whole_is_counted(check, tmp_path):
    found = check([filled(0, 1, 2), filled(255)])
    assert found['stop'] == found['warning'] == []
    assert '1 of 2 masks is ignored as a whole' in found['note'][0]
    assert f'{tmp_path}/masks/1.png' in found['note'][0]


@pytest.mark.parametrize('is_reduced', [False, True])
@pytest.mark.parametrize('classes', [None, ('dog', 'ground')])
def test_values_become_what_the_pipeline_makes_of_them(
    tmp_path, is_reduced, classes
):
    class Own(BaseSegDataset):
        METAINFO = dict(classes=NAMES)

    dataset = Own(
        data_root=str(tmp_path),
        data_prefix=dict(img_path='', seg_map_path=''),
        metainfo=classes and dict(classes=classes),
        reduce_zero_label=is_reduced,
        lazy_init=True,
        pipeline=[dict(type='mmseg.LoadAnnotations')],
    )
    every = np.arange(256, dtype=np.uint8).reshape(16, 16)
    Image.fromarray(every).save(tmp_path / 'every.png')
    loaded = dataset.pipeline(
        dict(
            seg_map_path=str(tmp_path / 'every.png'),
            reduce_zero_label=is_reduced,
            label_map=dataset.label_map,
            seg_fields=[],
        )
    )
    expected = labels_of_values(dataset.label_map or {}, is_reduced)
    assert np.array_equal(loaded['gt_seg_map'].ravel(), expected)
