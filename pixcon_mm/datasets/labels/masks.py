"""A look at label maps, the masks of semantic segmentation."""

import os
from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np

from pixcon_mm.datasets.labels.findings import (
    Findings,
    counted,
    image_size,
    listed,
    missing_files,
    opened,
    part,
    spread,
    with_bar,
)
from pixcon_mm.datasets.labels.mask_values import Mask, look_at_values
from pixcon_mm.datasets.labels.sources import Source
from pixcon_mm.files import as_line

THREADS = 4
# Pillow, with which MMSegmentation opens masks, raises an error above.
MOST_PIXELS = 178_956_970
TOO_LARGE = (
    f'has more than {MOST_PIXELS:,} pixels, which cannot be loaded: cut image '
    'and mask into tiles'
)


def look_at_masks(source: Source, find: Findings) -> None:
    """Look for missing masks, and into some or all of them.

    Args:
        source (Source): A data set of images and label maps.
        find (Findings): Receives what is found.

    Raises:
        UserError: For what ends the look.
    """
    dataset = source.dataset
    dataset.serialize_data = False
    dataset.full_init()
    samples = [
        (sample['img_path'], sample['seg_map_path'])
        for sample in dataset.data_list
        if sample.get('seg_map_path')
    ]
    if not samples:
        return  # the runner stops at empty data sets; some have no labels
    where = as_line(dataset.data_prefix['seg_map_path'])
    find.saw({os.path.dirname(p) for pair in samples for p in pair})
    find.saw(dataset.data_prefix.values())
    if dataset.ann_file:
        find.saw([dataset.ann_file])
    lost = _look_for_files(samples, source, find)
    there = [pair for pair in samples if not lost & {*pair}]
    chosen = spread(there, source.sample)
    find.saw(path for pair in chosen for path in pair)
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as pool:
        masks = [
            *with_bar(
                pool.map(_read, chosen), len(chosen), f'masks in {where}'
            )
        ]
    _look_at_files(masks, where, find)
    counts = np.zeros(256, np.int64)
    for mask in masks:
        counts += mask.counts
    if counts.any() and not any(mask.problem for mask in masks):
        label_map = dataset.data_list[0].get('label_map') or {}
        look_at_values(masks, counts, label_map, source, where, find)
    find.is_whole = len(chosen) == len(there)
    share = (
        'all opened'
        if find.is_whole
        else f'{len(chosen):,} of them opened (tools/check_data.py --all '
        'opens every one)'
    )
    find.note(f'{where}: {counted(len(there), "mask")}, {share}.')


def _look_for_files(
    samples: list[tuple[str, str]], source: Source, find: Findings
) -> set[str]:
    """Find images and masks that are missing; return their paths."""
    missing = missing_files(path for pair in samples for path in pair)
    for position, what in enumerate(('image', 'mask')):
        gone = [
            pair[position] for pair in samples if pair[position] in missing
        ]
        if not gone:
            continue
        folder, name = os.path.split(gone[0])
        suffix = (
            source.dataset.img_suffix
            if what == 'image'
            else source.dataset.seg_map_suffix
        )
        key = 'img_suffix' if what == 'image' else 'seg_map_suffix'
        stem = name.removesuffix(suffix)
        others = _beginning_with(folder, stem)
        hint = (
            f' There is {listed(others, 3)}: set {key}.'
            if others
            else f' A {what} has the name of its '
            f'{"mask" if what == "image" else "image"} and ends in {suffix!r}'
            f' ({key}).'
        )
        count = part(len(gone), len(samples), what, ('is', 'are'))
        find.stop(
            f'{count} not there (the first: {as_line(gone[0])}): add what is '
            f'missing, or take the images out of the set.{hint}'
        )
    return missing


def _beginning_with(folder: str, stem: str) -> list[str]:
    """Return names of files that differ from a stem by their end only."""
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries]
    except OSError:
        return []
    return sorted(
        name
        for name in names
        if name.startswith(stem) and not name[len(stem) :][:1].isdigit()
    )


def _read(pair: tuple[str, str]) -> Mask:
    """Open a mask as MMSegmentation does, and the header of its image."""
    image, path = pair
    counts = np.zeros(256, np.int64)
    try:
        with opened(path) as picture:
            if picture.width * picture.height > MOST_PIXELS:
                return Mask(path, counts, TOO_LARGE)
            labels = np.squeeze(np.array(picture))
    except OSError as error:
        return Mask(path, counts, f'cannot be read ({error})')
    problem = _no_label_map(labels)
    if problem:
        return Mask(path, counts, problem)
    labels = labels.astype(np.uint8)
    found = cv2.calcHist([labels], [0], None, [256], [0, 256])
    height, width = labels.shape
    try:
        size = image_size(image)
    except OSError as error:
        return Mask(image, counts, f'cannot be read ({error})')
    differs = (
        f'{width} x {height}, its image {size[0]} x {size[1]}'
        if size != (width, height)
        else ''
    )
    return Mask(path, found.ravel().astype(np.int64), '', differs)


def _no_label_map(labels: np.ndarray) -> str:
    """Say why an array holds no label maps, or nothing."""
    if labels.ndim == 3:
        colours = labels[..., :3]
        if labels.shape[2] == 2:
            return 'is grey with transparency: save the grey channel alone'
        if (colours == colours[..., :1]).all():
            return (
                'is RGB with three equal channels: save one of them '
                "(Pillow: Image.open(p).convert('L').save(p))"
            )
        seen = np.unique(colours[::8, ::8].reshape(-1, 3), axis=0)[:4]
        shown = ', '.join(str(tuple(map(int, colour))) for colour in seen)
        return (
            f'is RGB (with the colours {shown}): replace each colour by the '
            'number of its class, in one channel of 8 bits'
        )
    if labels.ndim != 2:
        return f'has the shape {labels.shape}: save height x width'
    if labels.dtype not in (np.uint8, bool):
        low, high = labels.min(), labels.max()
        is_whole = np.issubdtype(labels.dtype, np.integer)
        if not is_whole or low < 0 or high > 255:
            return (
                f'holds {labels.dtype} from {low:g} to {high:g}, which would '
                'be cut to 8 bits: save the numbers of classes as 8 bits'
            )
    return ''


def _look_at_files(masks: list[Mask], where: str, find: Findings) -> None:
    """Report masks that are none, or do not fit their image."""
    wrong = [mask for mask in masks if mask.problem]
    if wrong:
        count = part(len(wrong), len(masks), 'mask', ('is', 'are'))
        find.stop(
            f'{where}: {count} no label map; the first, '
            f'{as_line(wrong[0].path)}, {wrong[0].problem}.'
        )
    others = [mask for mask in masks if mask.is_other_size]
    if others:
        verb = ('differs from its image', 'differ from their images')
        find.stop(
            f'{where}: {part(len(others), len(masks), "mask", verb)} in size '
            f'(the first: {as_line(others[0].path)}, '
            f'{others[0].is_other_size}): make both equal, and resize masks '
            'without interpolation.'
        )
