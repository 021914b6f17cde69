#!/usr/bin/env python
r"""Collect the photographs of the small pre-training set in one folder.

    python tools/make_small_data.py --voc VOCdevkit/VOC2012 --coco coco \
        --camvid cityscapes --scenes scenes

The folder has links to training images, but to no images of validation sets of
segmentation. (VOC's Main/val.txt, for detection, shares images with trainaug.)
It has the images that VOC's ImageSets/Segmentation/trainaug.txt lists, COCO's
train2017, the frames below leftImg8bit/train (CamVid in the layout of
Cityscapes), and all images in the folder of scenes. Sets that are not named
are left out, and links of earlier runs are removed. Layout below --out:

    pool/voc/ pool/coco/ pool/camvid/ pool/scenes/
"""

import argparse
import os
import shutil
from pathlib import Path

from pixcon_mm.datasets.listing import list_images, readable_suffixes
from pixcon_mm.errors import UserError, run_tool
from pixcon_mm.files import as_line


def voc_images(root: Path) -> tuple[Path, list[Path]]:
    """Return the folder of VOC's images, and the images of trainaug.txt."""
    lists = root / 'ImageSets/Segmentation'
    if not (lists / 'trainaug.txt').is_file():
        raise UserError(
            f'There is no {lists / "trainaug.txt"}, which lists the images of '
            'train.txt and of the augmented set, one name per line.'
        )
    names = (lists / 'trainaug.txt').read_text().split()
    validation = {*(lists / 'val.txt').read_text().split()}
    if both := validation & {*names}:
        raise UserError(
            f'{lists / "trainaug.txt"} lists {len(both)} images of val.txt, '
            f'such as {min(both)}: remove them from it.'
        )
    folder = root / 'JPEGImages'
    return folder, [folder / f'{name}.jpg' for name in names]


def folder_images(folder: Path) -> tuple[Path, list[Path]]:
    """Return a folder, and the images below it."""
    found = list_images(str(folder), readable_suffixes(), set())
    return folder, [Path(path) for path in found]


def clear_links(pool: Path, sources: list[Path]) -> None:
    """Remove the links of an earlier run.

    Raises:
        UserError: If the pool holds something else, or if it lies in a
            folder of photographs or contains one.
    """
    for source in sources:
        inner, outer = pool.resolve(), source.resolve()
        if inner.is_relative_to(outer) or outer.is_relative_to(inner):
            raise UserError(
                f'One of {as_line(pool)}, which gets the links, and '
                f'{as_line(source)}, which has the images, lies inside the '
                'other: name another folder with --out.'
            )
    if pool.is_symlink() or pool.is_file():
        raise UserError(
            f'{as_line(pool)} is no folder of this tool: remove it, or name '
            'another folder with --out.'
        )
    for folder, _, files in os.walk(pool):
        for path in (Path(folder, name) for name in files):
            if not path.is_symlink():
                raise UserError(
                    f'{as_line(path)} is not a link: move it away, or name '
                    'another folder with --out.'
                )
    if pool.exists():
        shutil.rmtree(pool)


def main(argv: list[str] | None = None) -> None:
    """Link the images of all sets that are named."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    for name in ('voc', 'coco', 'camvid', 'scenes'):
        parser.add_argument(f'--{name}', type=Path, help='folder of the set')
    parser.add_argument('--out', type=Path, default=Path('data/small'))
    args = parser.parse_args(argv)
    sets = {}
    if args.voc:
        sets['voc'] = voc_images(args.voc)
    if args.coco:
        sets['coco'] = folder_images(args.coco / 'train2017')
    if args.camvid:
        sets['camvid'] = folder_images(args.camvid / 'leftImg8bit/train')
    if args.scenes:
        sets['scenes'] = folder_images(args.scenes)
    if not sets:
        raise UserError('No set is named: see --help.')
    for source, images in sets.values():
        if missing := [path for path in images if not path.is_file()]:
            raise UserError(
                f'{len(missing)} images are missing, such as {missing[0]}.'
            )
        if not images:
            raise UserError(f'No image of {as_line(source)} is listed.')
    pool = args.out / 'pool'
    clear_links(pool, [source for source, _ in sets.values()])
    for name, (source, images) in sets.items():
        folder = pool / name
        for path in images:
            link = folder / path.relative_to(source)
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(path.resolve())
        print(f'{folder}: {len(images)} images')


if __name__ == '__main__':
    run_tool(main)
