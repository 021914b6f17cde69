"""Check of label maps, the masks of semantic segmentation."""

import glob
import os
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pixcon_mm.datasets.decoding import check_png
from pixcon_mm.datasets.image_header import opened
from pixcon_mm.datasets.labels.images import (
    Size,
    in_threads,
    read_names,
    read_sizes,
)
from pixcon_mm.datasets.labels.mask_values import Mask, check_values
from pixcon_mm.datasets.labels.report import NOTE, STOP, WARNING, Report
from pixcon_mm.datasets.labels.sources import Source
from pixcon_mm.datasets.listing import (
    OPENCV_SUFFIXES,
    PICTURES,
    missing_files,
    spread,
    walk,
)
from pixcon_mm.errors import UserError
from pixcon_mm.files import as_line
from pixcon_mm.wording import counted, listed

# Pillow, with which MMSegmentation opens masks, raises an error above.
MOST_PIXELS = 178_956_970
UNREADABLE = 'cannot be read'
TOO_LARGE = (
    f'has more than {MOST_PIXELS:,} pixels, which cannot be loaded: cut image '
    'and mask into tiles'
)


def check_masks(source: Source, report: Report) -> None:
    """Check that all masks exist, and the content of some or all of them.

    Args:
        source (Source): A data set of images and label maps.
        report (Report): Receives the findings.

    Raises:
        UserError: If the rest cannot be checked.
    """
    dataset = source.dataset
    if os.path.isfile(dataset.ann_file):  # not a folder, nor missing
        read_names(dataset.ann_file)
    dataset.serialize_data = False
    dataset.full_init()
    pairs = [
        (sample['img_path'], sample['seg_map_path'])
        for sample in dataset.data_list
        if sample.get('seg_map_path')
    ]
    report.name = as_line(dataset.data_prefix.get('seg_map_path', ''))
    report.depends_on({os.path.dirname(p) for pair in pairs for p in pair})
    report.depends_on(filter(None, dataset.data_prefix.values()))
    report.depends_on([dataset.ann_file] if dataset.ann_file else [])
    _check_suffix(dataset, report)
    report.add_repeated([as_line(image) for image, _ in pairs])
    if not dataset.data_list:
        raise UserError(
            f'The data set is empty: the list {as_line(dataset.ann_file)} '
            'names no image.'
        )
    if not pairs:
        return  # images without labels
    missing = _check_files(pairs, source, report)
    there = [pair for pair in pairs if not missing & {*pair}]
    chosen = [there[i] for i in spread(source.sample, len(there))]
    report.depends_on(path for pair in chosen for path in pair)
    images = [*dict.fromkeys(image for image, _ in chosen)]
    sizes = read_sizes(images, source, report)
    masks = in_threads(
        lambda pair: _read(pair[1], sizes.get(pair[0])), chosen, 'masks'
    )
    wrong = [mask for mask in masks if mask.problem]
    report.add_cases(
        STOP,
        [mask for mask in wrong if mask.problem.startswith(UNREADABLE)],
        len(masks),
        'mask',
        'is damaged',
        'replace them, or remove them and their images from the data set',
        Mask.describe,
    )
    report.add_cases(
        STOP,
        [mask for mask in wrong if not mask.problem.startswith(UNREADABLE)],
        len(masks),
        'mask',
        'cannot be used as a label map',
        'masks have one channel of 8 bits with the numbers of the classes',
        Mask.describe,
    )
    report.add_cases(
        STOP,
        [mask for mask in masks if mask.sizes],
        len(masks),
        'mask',
        'differs in size from the image',
        'make both equal, and resize masks without interpolation',
        Mask.describe,
    )
    counts = sum((mask.counts for mask in masks), np.zeros(256, np.int64))
    if counts.any() and not wrong:
        label_map = dataset.data_list[0].get('label_map') or {}
        check_values(masks, counts, label_map, source, report)
    report.is_whole = len(chosen) == len(there)
    extent = (
        'all opened'
        if report.is_whole
        else f'{len(chosen):,} of them opened (tools/check_data.py --all '
        'opens every one)'
    )
    report.add(NOTE, f'{counted(len(there), "mask")}, {extent}.')


def _check_suffix(dataset: Any, report: Report) -> None:
    """Compare the images of a folder with the suffixes that are listed.

    MMSegmentation's data sets take the files with one suffix, unless a list
    names them; our MaskFolderDataset takes those of OpenCV, in any case.
    """
    suffix, prefix = dataset.img_suffix, dataset.data_prefix
    if dataset.ann_file:
        return
    folders = [*walk(prefix['img_path'])]
    report.depends_on(folder for folder, _ in folders)
    names = [name for _, files in folders for name in files]
    where = as_line(prefix['img_path'])
    if suffix is None:
        names = [name.lower() for name in names]
        taken: tuple[str, ...] = OPENCV_SUFFIXES
        text, advice = listed(taken), 'Convert the others.'
    else:
        taken = (suffix,)
        text = f'{suffix!r}, the img_suffix of the {type(dataset).__name__}'
        advice = (
            'Convert the others, or list them in a second data set with '
            'their own img_suffix.'
        )
    if not any(name.endswith(taken) for name in names):
        raise UserError(
            f'A data set is empty: {where} has no file that ends in {text}.'
        )
    if prefix.get('seg_map_path') == prefix['img_path']:
        taken += (dataset.seg_map_suffix,)
    left_out = Counter(
        os.path.splitext(name)[1]
        for name in names
        if name.lower().endswith(PICTURES) and not name.endswith(taken)
    )
    if left_out:
        counts = ', '.join(f'{n} {s}' for s, n in left_out.most_common())
        report.add(
            WARNING,
            f'{where} has images that are left out ({counts}): the data set '
            f'takes files that end in {text}. {advice}',
        )


def _check_files(
    pairs: list[tuple[str, str]], source: Source, report: Report
) -> set[str]:
    """Report images and masks that are missing; return their paths."""
    missing = missing_files(path for pair in pairs for path in pair)
    for position, what, key in (
        (0, 'image', 'img_suffix'),
        (1, 'mask', 'seg_map_suffix'),
    ):
        paths = [p[position] for p in pairs if p[position] in missing]
        if not paths:
            continue
        suffix = getattr(source.dataset, key)
        first = Path(paths[0])
        stem = first.name.removesuffix(suffix or first.suffix)
        similar = sorted(
            path.name
            for path in first.parent.glob(f'{glob.escape(stem)}*')
            if path.is_file() and not path.name[len(stem) :][:1].isdigit()
        )
        advice = 'add them, or remove them from the set'
        if similar:
            advice += f'. There is {listed(similar, 3)}: set {key}'
        elif suffix:
            advice += f'; the {key} of the data set is {suffix!r}'
        report.add_cases(
            STOP, paths, len(pairs), what, 'is not there', advice, as_line
        )
    return missing


def _read(path: str, size: Size | None) -> Mask:
    """Open a mask as MMSegmentation does; compare it with its image's size."""
    counts = np.zeros(256, np.int64)
    try:
        with opened(path) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                return Mask(path, counts, TOO_LARGE)
            labels = np.squeeze(np.array(picture))
        if picture.format == 'PNG':  # whose checksums Pillow does not verify
            check_png(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        return Mask(path, counts, f'{UNREADABLE} ({error})')
    problem = problem_of(labels)
    if problem:
        return Mask(path, counts, problem)
    labels = labels.astype(np.uint8)
    found = cv2.calcHist([labels], [0], None, [256], [0, 256]).ravel()
    height, width = labels.shape
    differs = ''
    if size and size != (width, height):
        differs = f'{width} x {height}, its image {size[0]} x {size[1]}'
    return Mask(path, found.astype(np.int64), sizes=differs)


def problem_of(labels: np.ndarray) -> str:
    """Explain why an array is not a label map; return nothing if it is."""
    if labels.ndim == 3:
        colors = labels[..., :3]
        if labels.shape[2] == 2:
            return 'is grey with transparency: save the grey channel alone'
        if (colors == colors[..., :1]).all():
            return (
                'is RGB with three equal channels: save one of them '
                "(Pillow: Image.open(p).convert('L').save(p))"
            )
        seen = np.unique(colors[::8, ::8].reshape(-1, 3), axis=0)[:4]
        shown = ', '.join(str(tuple(map(int, color))) for color in seen)
        return (
            f'is RGB (with the colours {shown}): replace each colour by the '
            'number of its class'
        )
    if labels.ndim != 2:
        return f'has the shape {labels.shape}: save height x width'
    low, high = labels.min(), labels.max()
    if labels.dtype.kind not in 'bui' or low < 0 or high > 255:
        return (
            f'holds {labels.dtype} from {low:g} to {high:g}, which would be '
            'cut to 8 bits: save the numbers of classes as 8 bits'
        )
    return ''
