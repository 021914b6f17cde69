"""Tests of labelled trees: what is read, and what is refused."""

import numpy as np
import pytest
import torch
from PIL import Image

from pixcon_mm.datasets.image_header import ORIENTATION
from pixcon_mm.evaluation.dense_data import DenseData, read_image
from pixcon_mm.evaluation.metrics import IGNORE
from tests.commands import sentence_of
from tests.test_evaluation.trees import COLOURS, MAKERS, make_voc

FIRST_CLASSES = {
    'VOC': ['background', 'aeroplane', 'bicycle'],
    'Cityscapes': ['road', 'sidewalk', 'building'],
    'ADE20K': ['wall', 'building', 'sky'],
    'COCO-panoptic': ['person', 'train', 'rug'],
}


@pytest.mark.parametrize('kind', MAKERS)
def test_trees_give_images_and_classes(kind, tmp_path):
    root = MAKERS[kind](tmp_path)
    for split, count in dict(train=4, val=2).items():
        data = DenseData(root, split, (32, 48))
        assert (data.kind, len(data)) == (kind, count)
        assert data.classes[:3] == FIRST_CLASSES[kind]
    image, mask = data[1]
    assert image.shape == (3, 32, 48)
    assert image.dtype == mask.dtype == torch.uint8
    assert mask.shape == (64, 96)
    ignored = kind != 'Cityscapes'
    assert (mask[:2] == IGNORE).all() == ignored
    # A block's colour shows its class, in RGB.
    for y, x in ((8, 8), (24, 40)):
        colour = image[:, y - 4 : y + 4, x - 4 : x + 4].float().mean((1, 2))
        expected = torch.tensor(COLOURS[mask[2 * y, 2 * x].item()])
        assert (colour - expected).abs().max() < 15


def test_only_chosen_classes_count(tmp_path):
    root = make_voc(tmp_path)
    every = DenseData(root, 'train', (32, 48))
    some = DenseData(root, 'train', (32, 48), ['bicycle', 'background'])
    assert some.classes == ['bicycle', 'background']
    for (_, mask), (_, chosen) in zip(every, some, strict=True):
        expected = torch.full_like(mask, IGNORE)
        expected[mask == 2], expected[mask == 0] = 0, 1
        assert torch.equal(chosen, expected)


def test_photographs_are_turned_as_their_exif_data_say(tmp_path):
    root = make_voc(tmp_path)
    image, mask = DenseData(root, 'train', (64, 96))[0]
    (path, _), *_ = DenseData(root, 'train', (64, 96)).pairs
    exif = Image.Exif()
    for orientation, turn in {
        3: Image.Transpose.ROTATE_180,
        6: Image.Transpose.ROTATE_90,
    }.items():
        exif[ORIENTATION] = orientation
        with Image.open(path) as picture:
            upright = picture.copy()
        stored = upright.transpose(turn)
        stored.save(path, exif=exif, quality=100, subsampling=0)
        found, same = DenseData(root, 'train', (64, 96))[0]
        assert (found.float() - image.float()).abs().mean() < 4
        assert torch.equal(same, mask)
        assert read_image(path, upright=False).shape[:2] == stored.size[::-1]
        upright.save(path, quality=100, subsampling=0)


def test_voc_takes_augmented_masks_where_there_is_no_other(tmp_path):
    root = make_voc(tmp_path)
    mask = root / 'SegmentationClass/train1.png'
    (root / 'SegmentationClassAug').mkdir()
    moved = mask.rename(root / 'SegmentationClassAug/train1.png')
    data = DenseData(root, 'train', (32, 48))
    assert [m for _, m in data.pairs if m.parent != mask.parent] == [moved]


def grey(change):
    def spoil(path, _):
        mask = np.array(Image.open(path))
        Image.fromarray(change(mask)).save(path)

    return spoil


def half_of_zeros(path, _):
    """Lose the end of the data, from which Pillow would make up labels."""
    Image.fromarray(
        np.random.default_rng(0).integers(9, size=(64, 96), dtype=np.uint8)
    ).save(path)
    content = path.read_bytes()
    half = len(content) // 2
    path.write_bytes(content[:half] + bytes(half - 12) + content[-12:])


@pytest.mark.parametrize(
    ('spoil', 'words'),
    [
        (lambda m, i: m.unlink(), ['train0.png, which is missing', 'of VOC']),
        (half_of_zeros, ['train0.png', 'chunk IDAT of the PNG file']),
        (lambda m, i: m.write_bytes(b'x'), ['train0.png', 'cannot be read']),
        (grey(lambda mask: mask[:10]), ['train0.png', '(10, 96)', '(64, 96)']),
        (grey(lambda mask: 0 * mask + 33), ['png', 'label 33', '0 to 20']),
        (grey(lambda mask: np.stack([mask] * 3, -1)), ['png', 'mode is RGB']),
        (lambda m, i: i.write_bytes(b'x'), ['train0.jpg', 'every image']),
    ],
)
def test_damaged_files_are_named(spoil, words, tmp_path):
    root = make_voc(tmp_path)
    spoil(
        root / 'SegmentationClass/train0.png', root / 'JPEGImages/train0.jpg'
    )
    sentence = sentence_of(lambda: DenseData(root, 'train', (32, 48))[0])
    assert all(word in sentence for word in words)


def test_an_unknown_split_is_answered_with_the_others(tmp_path):
    sentence = sentence_of(DenseData, make_voc(tmp_path), 'test', (32, 48))
    assert "'test'" in sentence
    assert 'train, trainaug, val' in sentence
