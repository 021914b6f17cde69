"""Masks of the user's own: they are read and checked as for a fine-tuning."""

import numpy as np
import pytest
import torch
from PIL import Image

from pixcon_mm.evaluation.dense_data import DenseData
from tests.commands import sentence_of
from tests.test_evaluation.trees import make_ade20k, make_own, make_voc

SIZE = (32, 48)
NAMES = ['background', 'aeroplane', 'bicycle']


def assert_equal(first, second):
    assert len(first) == len(second)
    for samples in zip(first, second, strict=True):
        for ours, theirs in zip(*samples, strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize('split', ['train', 'val'])
def test_samples_are_those_of_the_same_masks_in_another_tree(split, tmp_path):
    data = DenseData(make_own(tmp_path / 'own'), split, SIZE, NAMES)
    assert (data.kind, data.classes) == ('own masks', NAMES)
    voc = DenseData(make_voc(tmp_path / 'voc'), split, SIZE, NAMES)
    assert_equal(data, voc)


def test_masks_of_other_values(tmp_path, capsys):
    """The values count in the order of the classes; others are ignored."""
    own = make_own(tmp_path / 'own', values=(7, 0, 128))
    voc = make_voc(tmp_path / 'voc')
    names = ['bicycle', 'background']
    for _ in range(2):
        data = DenseData(own, 'train', SIZE, names, (128, 7))
        assert_equal(data, DenseData(voc, 'train', SIZE, names))
    warning = capsys.readouterr().err
    assert f'warning: {own}/masks/train: ' in warning
    assert warning.count('% of the pixels are ignored, as their values') == 1
    assert '(0) are not in mask_values [128, 7]' in warning


def test_255_may_be_a_class(tmp_path):
    root = make_own(tmp_path, values=(0, 0, 255))
    data = DenseData(root, 'val', SIZE, ['wall', 'crack'], [0, 255])
    _, labels = data[0]
    mask = np.array(Image.open(root / 'masks/val/val0.png'))
    assert np.array_equal(labels, mask == 255)


def test_masks_of_sixteen_bits(tmp_path):
    """A fine-tuning takes them as long as the values fit into eight."""
    root = make_own(tmp_path)
    path = root / 'masks/train/train1.png'
    values = np.array(Image.open(path)).astype(np.uint16)
    before = DenseData(root, 'train', SIZE, NAMES)[1]
    Image.fromarray(values).save(path)
    assert Image.open(path).mode == 'I;16'
    data = DenseData(root, 'train', SIZE, NAMES)
    assert_equal([data[1]], [before])
    Image.fromarray(values + np.uint16(256)).save(path)
    assert 'holds uint16' in sentence_of(lambda: data[1])
    sentence = sentence_of(DenseData, root, 'train', SIZE, NAMES)
    assert 'holds uint16' in sentence


def test_black_and_white_masks_of_one_bit(tmp_path):
    root = make_own(tmp_path, values=(0, 1, 1))
    for path in root.glob('masks/*/*.png'):
        Image.fromarray(np.array(Image.open(path)) == 1).save(path)
        assert Image.open(path).mode == '1'
    data = DenseData(root, 'train', SIZE, ['wall', 'crack'])
    assert {*torch.cat([mask for _, mask in data]).unique().tolist()} == {0, 1}


def test_images_of_any_suffix_and_in_subfolders(tmp_path):
    root = make_own(tmp_path, suffix='.PNG')
    for kind in ('images', 'masks'):
        folder = root / kind / 'train'
        (folder / 'sub').mkdir()
        for path in folder.glob('train3.*'):
            path.rename(folder / 'sub' / path.name)
    first = root / 'images/train/train0.PNG'
    Image.open(first).save(first.with_suffix('.bmp'))
    first.unlink()
    pairs = DenseData(root, 'train', SIZE, NAMES).pairs
    found = [
        [path.relative_to(root).as_posix() for path in pair] for pair in pairs
    ]
    assert found[0] == [
        'images/train/sub/train3.PNG',
        'masks/train/sub/train3.png',
    ]
    assert found[1] == ['images/train/train0.bmp', 'masks/train/train0.png']


@pytest.mark.parametrize(
    ('values', 'arguments', 'words'),
    [
        (range(3), [], 'no class names: list the names of all classes'),
        (range(3), [NAMES[:2]], 'has the value 2 ('),
        (range(3), [['a', 'b', 'a']], "'a' is named twice"),
        ((255,) * 3, [['a'], (255,)], "'a', every pixel would be right"),
        ((255,) * 3, ['crack'], "'crack', every pixel would be right"),
        ((0, 1, 1), [NAMES[:2], (0, 9)], 'mask_values is [0, 9]: list'),
        ((0, 1, 9), [NAMES], 'has the value 9 ('),
        ((1, 2, 3), [NAMES], 'count from 1: mask_values=1,2,3 ('),
        ((0, 85, 255), [NAMES], 'classes: mask_values=0,85,255 ('),
        ((0, 85, 255), [NAMES, (0, 85)], 'give each class one value'),
        ((0, 85, 255), [NAMES, (1, 2, 3)], 'every pixel is ignored'),
        ((2, 2, 2), [NAMES], 'class 2 is the only one'),
    ],
)
def test_values_that_do_not_fit(values, arguments, words, tmp_path):
    root = make_own(tmp_path, values=values)
    assert words in sentence_of(DenseData, root, 'train', SIZE, *arguments)


def test_a_class_without_pixels_is_named(tmp_path, capsys):
    root = make_own(tmp_path)
    DenseData(root, 'train', SIZE, [*NAMES, 'cat'])
    warning = f"{root}/masks/train: 1 of 4 classes has no label: 'cat'"
    assert warning in capsys.readouterr().err


def test_a_wrong_value_is_found_where_it_is_read(tmp_path):
    """The label check opens some of the masks."""
    root = make_own(tmp_path)
    data = DenseData(root, 'train', SIZE, NAMES)
    path = root / 'masks/train/train1.png'
    Image.fromarray(np.array(Image.open(path)) + np.uint8(3)).save(path)
    assert 'the labels of own masks are 0 to 2' in sentence_of(lambda: data[1])


def test_missing_masks_images_and_splits(tmp_path):
    root = make_own(tmp_path)
    (root / 'masks/train/train2.png').unlink()
    sentence = sentence_of(DenseData, root, 'train', SIZE, NAMES)
    assert 'train2.png, which is missing: a tree of own masks' in sentence
    sentence = sentence_of(DenseData, root, 'test', SIZE, NAMES)
    assert "has no image in its split 'test'" in sentence
    Image.new('RGB', (9, 9)).save(root / 'images/val/val0.bmp')
    sentence = sentence_of(DenseData, root, 'val', SIZE, NAMES)
    assert 'labels belong to a name without suffix' in sentence


@pytest.mark.parametrize('make', [make_voc, make_ade20k])
def test_trees_with_known_labels_take_no_values(make, tmp_path):
    root = make(tmp_path)
    sentence = sentence_of(DenseData, root, 'train', SIZE, None, (0, 1))
    assert 'mask_values is for masks of your own' in sentence
