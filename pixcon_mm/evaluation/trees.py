"""Folders of labelled photographs: which layouts are read, and how."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from pixcon_mm.cli import quiet
from pixcon_mm.datasets.listing import missing_files
from pixcon_mm.errors import UserError
from pixcon_mm.evaluation import own_masks
from pixcon_mm.evaluation.metrics import IGNORE
from pixcon_mm.files import as_line


class Split(NamedTuple):
    """Files of a split of a data set.

    Attributes:
        pairs (list[tuple[Path, Path]]): Images and their masks.
        names (list[str] | None): Names of the classes, in the order of their
            labels; None if only the user knows them.
        decode (Callable): From the path of a mask to its labels, uint8
            (H, W), with ``IGNORE``; without names, to the values in it.
    """

    pairs: list[tuple[Path, Path]]
    names: list[str] | None
    decode: Callable[[Path], np.ndarray]


def tree_of(root: Path) -> str:
    """Return the key of ``TREES`` that a folder matches.

    Raises:
        UserError: If it matches none; the message lists the known trees.
    """
    for kind, tree in TREES.items():
        if (root / tree.mark).exists():
            return kind
    what = 'holds no labelled data' if root.is_dir() else 'is not a folder'
    what = what if root.exists() else 'does not exist'
    trees = ''.join(
        f'\n  {kind}: {", ".join(tree.files)}' for kind, tree in TREES.items()
    )
    raise UserError(f'{root} {what}. These layouts are read:{trees}')


def read_split(root: Path, split: str) -> Split:
    """List the images and masks of a split, whether they exist or not.

    Raises:
        UserError: If the folder is none of ``TREES``, or the split is unknown
            or empty.
    """
    kind = tree_of(root)
    found = TREES[kind].read(root, split)
    if not found.pairs:
        raise UserError(
            f'{root} has no image in its split {split!r}: {layout(kind)}'
        )
    return found


def check_files(paths: Iterable[Path], advice: str) -> None:
    """Stop if files of an evaluation are missing."""
    missing = sorted(missing_files(map(str, paths)))
    if missing:
        more = f' and {len(missing) - 1:,} more' if missing[1:] else ''
        raise UserError(
            f'The evaluation needs {as_line(missing[0])}{more}, which '
            f'{"are" if more else "is"} missing: {advice}'
        )


def layout(kind: str) -> str:
    """Say which files a tree has; ``kind`` is a key of ``TREES``."""
    return f'a tree of {kind} holds {", ".join(TREES[kind].files)}.'


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


def _read_voc(root: Path, split: str) -> Split:
    names = root / 'ImageSets/Segmentation' / f'{split}.txt'
    if not names.is_file():
        known = sorted(path.stem for path in names.parent.glob('*.txt'))
        raise UserError(
            f'{root} has no split {split!r}; it has {", ".join(known)}.'
        )
    pairs = []
    for name in dict.fromkeys(names.read_text().split()):
        mask = root / 'SegmentationClass' / f'{name}.png'
        if not mask.is_file():
            mask = root / 'SegmentationClassAug' / f'{name}.png'
        pairs.append((root / 'JPEGImages' / f'{name}.jpg', mask))
    return Split(pairs, _names('PascalVOCDataset'), _indices)


def _read_cityscapes(root: Path, split: str) -> Split:
    pairs, ending = [], '_leftImg8bit'
    images = root / 'leftImg8bit' / split
    for path in sorted(images.glob(f'*/*{ending}.*')):
        name = path.stem.removesuffix(ending)
        folder = root / 'gtFine' / split / path.parent.name
        pairs.append((path, folder / f'{name}_gtFine_labelTrainIds.png'))
    return Split(pairs, _names('CityscapesDataset'), _indices)


def _read_ade20k(root: Path, split: str) -> Split:
    split = dict(train='training', val='validation').get(split, split)
    pairs = [
        (path, root / 'annotations' / split / f'{path.stem}.png')
        for path in sorted((root / 'images' / split).glob('*.jpg'))
    ]

    def decode(path: Path) -> np.ndarray:
        return _indices(path) - np.uint8(1)  # 0, "other", becomes IGNORE

    return Split(pairs, _names('ADE20KDataset'), decode)


def _read_coco_panoptic(root: Path, split: str) -> Split:
    path = root / 'annotations' / f'panoptic_{split}2017.json'
    if not path.is_file():
        raise UserError(f'There is no {path}: {layout("COCO-panoptic")}')
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

    return Split(pairs, [c['name'] for c in categories], decode)


def _read_own_masks(root: Path, split: str) -> Split:
    pairs = own_masks.list_pairs(root, split)
    return Split(pairs, None, own_masks.read_values)


class Tree(NamedTuple):
    """Layout of a data set.

    Attributes:
        mark (str): File or folder that only this layout has.
        files (tuple[str, ...]): What is read, for messages.
        read (Callable): From the folder and the name of a split to its files.
    """

    mark: str
    files: tuple[str, ...]
    read: Callable[[Path, str], Split]


TREES = {
    'VOC': Tree(
        'ImageSets/Segmentation',
        (
            'JPEGImages/*.jpg',
            'SegmentationClass/*.png (or SegmentationClassAug/)',
            'ImageSets/Segmentation/{train,val}.txt',
        ),
        _read_voc,
    ),
    'Cityscapes': Tree(
        'leftImg8bit',
        (
            'leftImg8bit/{train,val}/CITY/*_leftImg8bit.png',
            'gtFine/{train,val}/CITY/*_gtFine_labelTrainIds.png',
        ),
        _read_cityscapes,
    ),
    'ADE20K': Tree(
        'annotations/validation',
        (
            'images/{training,validation}/*.jpg',
            'annotations/{training,validation}/*.png',
        ),
        _read_ade20k,
    ),
    'COCO-panoptic': Tree(
        'annotations/panoptic_val2017.json',
        (
            '{train,val}2017/*.jpg',
            'annotations/panoptic_{train,val}2017.json',
            'annotations/panoptic_{train,val}2017/*.png',
        ),
        _read_coco_panoptic,
    ),
    'own masks': Tree(
        'masks/val',
        ('images/{train,val}/*', 'masks/{train,val}/*.png with equal names'),
        _read_own_masks,
    ),
}
