"""A look at the values of label maps."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from pixcon_mm.datasets.labels.findings import Findings, counted
from pixcon_mm.datasets.labels.sources import Source
from pixcon_mm.files import as_line


@dataclass(frozen=True)
class Mask:
    """What a label map holds.

    Args:
        path (str): The file.
        counts (np.ndarray): Pixels of each value. Shape (256,).
        problem (str): Why it cannot be a label map, or nothing.
        is_other_size (str): Both sizes, if its image has another one.
    """

    path: str
    counts: np.ndarray
    problem: str = ''
    is_other_size: str = ''


def look_at_values(
    masks: list[Mask],
    counts: np.ndarray,
    label_map: dict[int, int],
    source: Source,
    where: str,
    find: Findings,
) -> None:
    """Compare the values of masks with the classes.

    Args:
        masks (list[Mask]): Masks without a problem.
        counts (np.ndarray): Pixels of each value in all of them. Shape
            (256,).
        label_map (dict[int, int]): Classes that the data set gives to
            values, after ``reduce_zero_label``.
        source (Source): The data set.
        where (str): The folder, for sentences.
        find (Findings): Receives what is found.
    """
    dataset = source.dataset
    mapped = mapping(label_map, dataset.reduce_zero_label)
    total = source.num_classes or len(source.classes)
    if not total:
        return
    values = np.flatnonzero(counts)
    used = np.zeros(256, bool)
    used[[v for v in mapped[values] if v != dataset.ignore_index]] = True
    stored = f'the values are {_ranges(values)}'
    hint = _hint(values, total, dataset)
    wrong = [v for v in values if total <= mapped[v] != dataset.ignore_index]
    if wrong:
        mask = next(m for m in masks if m.counts[wrong[0]])
        share = mask.counts[wrong[0]] / mask.counts.sum()
        minus = ' less one' if dataset.reduce_zero_label else ''
        find.stop(
            f'{as_line(mask.path)} has the value {wrong[0]} ({share:.1%} of '
            f'its pixels){minus}, and the classes have the numbers 0 to '
            f'{total - 1} ({dataset.ignore_index} is ignored). In {where} '
            f'{stored}.{hint}'
        )
        return
    if not used.any():
        why = (
            'reduce_zero_label=True turns 0 into 255'
            if dataset.reduce_zero_label and 0 in values
            else '255 is ignored'
        )
        find.stop(
            f'{where}: every pixel is ignored, as {why}; {stored}.{hint}'
        )
        return
    if used.sum() == 1 and total > 1:
        # The first images of a trial may well have one class.
        is_certain = source.trains and dataset._indices is None
        is_certain |= [*values] == [0, 255]
        tell = find.stop if is_certain else find.warn
        alone = int(np.flatnonzero(used)[0])
        tell(
            f'{where}: class {alone} is the only one in the '
            f'{counted(len(masks), "mask")} that were opened; {stored}.{hint}'
        )
        return
    lost = [
        v for v in values if mapped[v] == dataset.ignore_index and v != 255
    ]
    if lost and getattr(dataset, 'mask_values', None):
        share = counts[lost].sum() / counts.sum()
        find.warn(
            f'{where}: {share:.1%} of the pixels are ignored, as their values '
            f'({_ranges(np.array(lost))}) are not in mask_values '
            f'{[*dataset.mask_values]}.'
        )
    blank = [m for m in masks if not _counts_as_label(m, mapped, dataset)]
    if blank:
        find.note(
            f'{where}: {counted(len(blank), "mask")} of {len(masks):,} '
            f'{"is" if len(blank) == 1 else "are"} ignored as a whole (the '
            f'first: {as_line(blank[0].path)}).'
        )
    names = source.classes or tuple(map(str, range(total)))
    find.present = [name for i, name in enumerate(names[:total]) if used[i]]


def _counts_as_label(mask: Mask, mapped: np.ndarray, dataset: Any) -> bool:
    return any(
        mapped[value] != dataset.ignore_index
        for value in np.flatnonzero(mask.counts)
    )


def mapping(label_map: dict[int, int], is_reduced: bool) -> np.ndarray:
    """Return the class that a data set makes of each value. Shape (256,)."""
    mapped = []
    for value in range(256):
        label = value
        if is_reduced:
            label = 255 if value in (0, 255) else value - 1
        mapped.append(label_map.get(label, label))
    return np.array(mapped)


def _hint(values: np.ndarray, total: int, dataset: Any) -> str:
    """Guess what was meant by values that do not fit."""
    classes = [int(v) for v in values if v != 255]
    is_reduced = dataset.reduce_zero_label
    if len(values) == total and getattr(dataset, 'mask_values', 0) is None:
        shown = ','.join(map(str, values))
        return (
            f' If these are the {total} classes: --cfg-options '
            f'mask_values={shown}'
        )
    if [*values] == [0, 255]:
        return (
            ' These look like masks of one object in 0 and 255: write 1 for '
            '255 (Pillow: Image.open(p).point(lambda v: v // 255).save(p)), '
            'or name both values: mask_values=0,255 (docs/your_data.md).'
        )
    if is_reduced and max(classes, default=0) < total:
        return ' If 0 is a class, set reduce_zero_label=False.'
    if not is_reduced and classes and max(classes) == total:
        if 0 not in classes:
            return (
                ' If they count from 1, set reduce_zero_label=True in the '
                'data set.'
            )
        return (
            ' If 0 is no class, set reduce_zero_label=True in the data set; '
            'if it is one, add a class name for it.'
        )
    steps = {*np.diff(values).tolist()}
    if len(values) > 2 and len(steps) == 1 and steps != {1}:
        return (
            f' They look like shades for {len(values)} classes: divide them '
            f'by {steps.pop()} '
            '(Pillow: Image.open(p).point(lambda v: v // N).save(p)), or name '
            f'them: mask_values={",".join(map(str, values))} '
            '(docs/your_data.md).'
        )
    if len(classes) > total + 20:
        return (
            ' So many values come from resizing with interpolation or from '
            'JPEG: make the masks again, as PNG.'
        )
    return ' Give each pixel the number of a class, or 255 to ignore it.'


def _ranges(values: np.ndarray) -> str:
    """Write numbers with ranges.

    Example:
        >>> _ranges(np.array([0, 1, 2, 5, 255]))
        '0 to 2, 5, 255'
    """

    def groups() -> Iterator[str]:
        start = before = int(values[0])
        for value in [*map(int, values[1:]), None]:
            if value == before + 1:
                before = value
                continue
            yield f'{start} to {before}' if before > start else str(start)
            start = before = value if value is not None else -1

    shown = [*groups()]
    return ', '.join(shown[:12]) + (', ...' if len(shown) > 12 else '')
