"""Photographs with a class for every pixel, in the folders of data sets."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.utils.data import Dataset

from pixcon_mm.cli import quiet
from pixcon_mm.datasets.loading import BrokenImageError, LoadSceneImage
from pixcon_mm.datasets.transforms import resize
from pixcon_mm.errors import UserError, suggest
from pixcon_mm.evaluation.metrics import IGNORE
from pixcon_mm.files import as_line

TREES = {
    'VOC': (
        'JPEGImages/*.jpg',
        'SegmentationClass/*.png (or SegmentationClassAug/)',
        'ImageSets/Segmentation/{train,val}.txt',
    ),
    'Cityscapes': (
        'leftImg8bit/{train,val}/CITY/*_leftImg8bit.png',
        'gtFine/{train,val}/CITY/*_gtFine_labelTrainIds.png',
    ),
    'ADE20K': (
        'images/{training,validation}/*.jpg',
        'annotations/{training,validation}/*.png',
    ),
    'COCO-panoptic': (
        '{train,val}2017/*.jpg',
        'annotations/panoptic_{train,val}2017.json',
        'annotations/panoptic_{train,val}2017/*.png',
    ),
}
Pair = tuple[Path, Path]  # image and mask


class Labelled(NamedTuple):
    """An image and the classes of its pixels.

    Attributes:
        image (Tensor): uint8, RGB, resized. Shape (3, H, W).
        mask (Tensor): uint8, class or ``IGNORE``, in the original size of the
            photograph. Shape (H0, W0).
    """

    image: Tensor
    mask: Tensor


class DenseData(Dataset):
    """Labelled photographs of one split of a data set.

    Args:
        root (str | Path): Folder of one of ``TREES``, recognised by its
            subfolders.
        split (str): ``'train'``, ``'val'``, or for VOC any list in
            ImageSets/Segmentation, such as ``'trainaug'``.
        size (tuple[int, int]): Height and width that images are resized to.
        classes (Sequence[str], optional): Names of the classes to use; pixels
            of other classes are ignored. By default all of the data set.

    Raises:
        UserError: If the folder is no such tree, if an image has no mask, or
            if a class is unknown or named twice.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        size: tuple[int, int],
        classes: Sequence[str] | None = None,
    ):
        self.root, self.split, self.size = Path(root), split, size
        self.kind = tree_of(self.root)
        reader: Callable = _READERS[self.kind]
        self.pairs, names, self._decode = reader(self.root, split)
        if not self.pairs:
            raise UserError(
                f'{self.root} has no image in its split {split!r}: '
                f'{_expected(self.kind)}'
            )
        for path in (path for pair in self.pairs for path in pair):
            if not path.is_file():
                raise UserError(
                    f'The split {split!r} of {self.root} needs '
                    f'{as_line(path)}, which is missing: '
                    f'{_expected(self.kind)}'
                )
        self.classes = list(classes or names)
        for name in self.classes:
            if self.classes.count(name) > 1:
                raise UserError(
                    f'The class {name!r} is named twice: name it once.'
                )
            if name not in names:
                raise UserError(
                    f'{self.kind} has no class {name!r}.{suggest(name, names)}'
                    f' Its classes are {", ".join(names)}.'
                )
        # From a label in the mask to an index in self.classes.
        self._table = np.full(256, IGNORE, np.uint8)
        for index, name in enumerate(self.classes):
            self._table[names.index(name)] = index
        self._num_labels = len(names)

    def __len__(self) -> int:
        """Return the number of photographs."""
        return len(self.pairs)

    def __getitem__(self, index: int) -> Labelled:
        """Return a resized image and its mask.

        Raises:
            UserError: If a file is damaged, or if the mask has another size
                than the image or unknown labels.
        """
        image_path, mask_path = self.pairs[index]
        image = read_image(image_path)
        shape = image.shape[:2]
        try:
            labels = self._decode(mask_path)
        except (OSError, ValueError, UnidentifiedImageError) as error:
            raise UserError(
                f'The mask {as_line(mask_path)} cannot be read ({error}): '
                'replace it.'
            ) from error
        if labels.shape != shape:
            raise UserError(
                f'The mask {as_line(mask_path)} has the shape {labels.shape} '
                f'(height, width), but its image has {shape}: replace one.'
            )
        known = labels[labels != IGNORE]
        if known.size and known.max() >= self._num_labels:
            raise UserError(
                f'The mask {as_line(mask_path)} has the label {known.max()}, '
                f'but the labels of {self.kind} are 0 to '
                f'{self._num_labels - 1}, and {IGNORE} for ignored pixels.'
            )
        if self.size != shape:
            image = resize(image, self.size[::-1], 'bilinear')
        pixels = torch.from_numpy(image).permute(2, 0, 1)
        return Labelled(pixels, torch.from_numpy(self._table[labels]))


def read_image(path: Path) -> np.ndarray:
    """Read a photograph as RGB, uint8, of shape (H, W, 3).

    Raises:
        UserError: If the file is damaged; an evaluation skips no image.
    """
    try:
        _, image = LoadSceneImage().read(str(path))
    except BrokenImageError as error:
        raise UserError(
            f'{error}: an evaluation needs every image, so replace it or '
            'take it out of the list.'
        ) from error
    return np.ascontiguousarray(image[..., ::-1])


def tree_of(root: Path) -> str:
    """Return the key of ``TREES`` that a folder matches.

    Raises:
        UserError: If it matches none; the message lists the known trees.
    """
    marks = {
        'VOC': 'ImageSets/Segmentation',
        'Cityscapes': 'leftImg8bit',
        'ADE20K': 'annotations/validation',
        'COCO-panoptic': 'annotations/panoptic_val2017.json',
    }
    for kind, mark in marks.items():
        if (root / mark).exists():
            return kind
    what = 'holds no labelled data' if root.is_dir() else 'is no folder'
    what = what if root.exists() else 'does not exist'
    trees = ''.join(
        f'\n  {kind}: {", ".join(parts)}' for kind, parts in TREES.items()
    )
    raise UserError(f'{root} {what}. These layouts are read:{trees}')


def _expected(kind: str) -> str:
    return f'a tree of {kind} holds {", ".join(TREES[kind])}.'


def _names(dataset: str) -> list[str]:
    """Return MMSegmentation's names of the classes of a data set."""
    with quiet():
        from mmseg import datasets
    return list(getattr(datasets, dataset).METAINFO['classes'])


def _indices(path: Path) -> np.ndarray:
    """Read a mask whose pixel values are classes, grey or with a palette."""
    with Image.open(path) as picture:
        if picture.mode not in ('L', 'P'):
            raise ValueError(
                f'its mode is {picture.mode}, but classes are stored as 8 '
                'bits of grey or with a palette'
            )
        return np.array(picture)


def _read_voc(root: Path, split: str) -> tuple:
    names = root / 'ImageSets/Segmentation' / f'{split}.txt'
    if not names.is_file():
        known = sorted(path.stem for path in names.parent.glob('*.txt'))
        raise UserError(
            f'{root} has no split {split!r}; it has {", ".join(known)}.'
        )
    pairs = []
    for name in names.read_text().split():
        mask = root / 'SegmentationClass' / f'{name}.png'
        if not mask.is_file():
            mask = root / 'SegmentationClassAug' / f'{name}.png'
        pairs.append((root / 'JPEGImages' / f'{name}.jpg', mask))
    return pairs, _names('PascalVOCDataset'), _indices


def _read_cityscapes(root: Path, split: str) -> tuple:
    pairs, ending = [], '_leftImg8bit'
    images = root / 'leftImg8bit' / split
    for path in sorted(images.glob(f'*/*{ending}.*')):
        name = path.stem.removesuffix(ending)
        folder = root / 'gtFine' / split / path.parent.name
        pairs.append((path, folder / f'{name}_gtFine_labelTrainIds.png'))
    return pairs, _names('CityscapesDataset'), _indices


def _read_ade20k(root: Path, split: str) -> tuple:
    split = dict(train='training', val='validation').get(split, split)
    pairs = [
        (path, root / 'annotations' / split / f'{path.stem}.png')
        for path in sorted((root / 'images' / split).glob('*.jpg'))
    ]

    def decode(path: Path) -> np.ndarray:
        return _indices(path) - np.uint8(1)  # 0, "other", becomes IGNORE

    return pairs, _names('ADE20KDataset'), decode


def _read_coco_panoptic(root: Path, split: str) -> tuple:
    path = root / 'annotations' / f'panoptic_{split}2017.json'
    if not path.is_file():
        raise UserError(f'There is no {path}: {_expected("COCO-panoptic")}')
    try:
        content = json.loads(path.read_bytes())
        categories = content['categories']
        index = {c['id']: i for i, c in enumerate(categories)}
        files = {i['id']: i['file_name'] for i in content['images']}
        segments = {
            a['file_name']: {
                s['id']: index[s['category_id']] for s in a['segments_info']
            }
            for a in content['annotations']
        }
        images, folder = root / f'{split}2017', path.with_suffix('')
        pairs = [
            (images / files[a['image_id']], folder / a['file_name'])
            for a in content['annotations']
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f'{path} is not in the format of COCO-panoptic ({error!r}).'
        ) from error

    def decode(path: Path) -> np.ndarray:
        with Image.open(path) as picture:
            rgb = np.array(picture.convert('RGB'), dtype=np.int64)
        ids = rgb @ [1, 256, 65536]
        labels = np.full(ids.shape, IGNORE, np.uint8)
        for segment, label in segments[path.name].items():
            labels[ids == segment] = label
        return labels

    return pairs, [c['name'] for c in categories], decode


_READERS = {
    'VOC': _read_voc,
    'Cityscapes': _read_cityscapes,
    'ADE20K': _read_ade20k,
    'COCO-panoptic': _read_coco_panoptic,
}
