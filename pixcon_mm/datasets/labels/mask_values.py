"""Check of the values of label maps against the classes."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from pixcon_mm.datasets.labels.report import NOTE, STOP, WARNING, Report
from pixcon_mm.datasets.labels.sources import Source
from pixcon_mm.errors import UserError
from pixcon_mm.files import as_line
from pixcon_mm.wording import counted


@dataclass(frozen=True)
class Mask:
    """Content of a label map.

    Args:
        path (str): The file.
        counts (np.ndarray): Pixels of each value. Shape (256,).
        problem (str): Why it cannot be used, or nothing.
        sizes (str): Its size and its image's, where they differ.
    """

    path: str
    counts: np.ndarray
    problem: str = ''
    sizes: str = ''

    def describe(self) -> str:
        """Name the file and its problem."""
        return f'{as_line(self.path)}, {self.problem or self.sizes}'


def check_values(
    masks: list[Mask],
    counts: np.ndarray,
    label_map: dict[int, int],
    source: Source,
    report: Report,
) -> None:
    """Compare the values of masks with the classes.

    Args:
        masks (list[Mask]): Masks without a problem.
        counts (np.ndarray): Pixels of each value in all of them. Shape
            (256,).
        label_map (dict[int, int]): Classes that the data set gives to
            values, after ``reduce_zero_label``.
        source (Source): The data set.
        report (Report): Receives the findings.
    """
    dataset, ignored = source.dataset, source.dataset.ignore_index
    labels = labels_of_values(label_map, dataset.reduce_zero_label)
    total = source.num_classes or len(source.classes)
    if not total:
        return
    values = np.flatnonzero(counts)
    used = {int(labels[v]) for v in values} - {ignored}
    lost = [v for v in values if labels[v] == ignored and v != 255]
    hint = f'the values are {ranges(values)}.{_hint(values, total, dataset)}'
    wrong = [v for v in values if total <= labels[v] != ignored]
    if wrong:
        mask = next(m for m in masks if m.counts[wrong[0]])
        part = mask.counts[wrong[0]] / mask.counts.sum()
        shifted = f', which counts as {labels[wrong[0]]}'
        meaning = shifted if dataset.reduce_zero_label else ''
        report.add(
            STOP,
            f'{as_line(mask.path)} has the value {wrong[0]} ({part:.1%} of '
            f'its pixels){meaning}, and the classes have the numbers 0 to '
            f'{total - 1} ({ignored} is ignored); {hint}',
        )
        return
    if not used:
        why = (
            'reduce_zero_label=True turns 0 into 255'
            if dataset.reduce_zero_label and 0 in values
            else '255 is ignored'
        )
        report.add(STOP, f'every pixel is ignored, as {why}; {hint}')
        return
    if len(used) == 1 and total > 1:
        # The first images of a trial may well have one class.
        is_certain = source.trains and dataset._indices is None
        is_certain |= [*values] == [0, 255]
        report.add(
            STOP if is_certain else WARNING,
            f'class {min(used)} is the only one in the '
            f'{counted(len(masks), "mask")} that were opened; {hint}',
        )
        return
    if lost and getattr(dataset, 'mask_values', None):
        report.add(
            WARNING,
            f'{counts[lost].sum() / counts.sum():.1%} of the pixels are '
            f'ignored, as their values ({ranges(lost)}) are not in '
            f'mask_values {[*dataset.mask_values]}.',
        )
    report.add_cases(
        NOTE,
        [m for m in masks if not m.counts[labels != ignored].any()],
        len(masks),
        'mask',
        'is ignored as a whole',
        'no pixel has a class',
        lambda mask: as_line(mask.path),
    )
    names = source.classes or tuple(map(str, range(total)))
    report.present = [n for i, n in enumerate(names[:total]) if i in used]


def mask_labels(
    values: Sequence[int] | None, classes: Sequence[str]
) -> dict[int, int] | None:
    """Return the number of the class for every grey value.

    Args:
        values (Sequence[int], optional): Value of each class; None if they
            are the numbers already.
        classes (Sequence[str]): Names of the classes.

    Raises:
        UserError: If they are not one different value for each class.

    Example:
        >>> labels = mask_labels((0, 128), ('wall', 'door'))
        >>> labels[0], labels[128], labels[1], labels[255]
        (0, 1, 255, 255)
    """
    if values is None:
        return None
    # An option with one value is no list.
    is_list = isinstance(values, Sequence)
    chosen = [v for v in values if v in range(256)] if is_list else []
    numbers = {value: number for number, value in enumerate(chosen)}
    if not len(numbers) == len(classes) == len(values):
        raise UserError(
            f'mask_values = {values} for {len(classes)} classes '
            f'({", ".join(classes)}): give each class one value of 0-255, as '
            'in classes=wall,door mask_values=0,128 (docs/your_data.md)'
        )
    return {value: numbers.get(value, 255) for value in range(256)}


def labels_of_values(
    label_map: dict[int, int], is_reduced: bool
) -> np.ndarray:
    """Return the class that a data set gives to each value. Shape (256,)."""
    labels = [*range(256)]
    if is_reduced:
        labels = [255, *range(254), 255]
    return np.array([label_map.get(label, label) for label in labels])


def _hint(values: np.ndarray, total: int, dataset: Any) -> str:
    """Suggest what was meant by values that do not fit."""
    classes = [int(v) for v in values if v != 255]
    steps = {*np.diff(values).tolist()}
    listed = _option(values)
    takes_values = getattr(dataset, 'mask_values', 0) is None
    if takes_values and len(values) == total:
        return f' If these are the {total} classes: {listed}.'
    if [*values] == [0, 255]:
        return (
            ' These look like masks of one object in 0 and 255: write 1 for '
            '255 (Pillow: Image.open(p).point(lambda v: v // 255).save(p)), '
            f'or name both values: {listed}.'
        )
    if dataset.reduce_zero_label and max(classes, default=0) < total:
        return ' If 0 is a class, set reduce_zero_label=False.'
    if not dataset.reduce_zero_label and max(classes, default=0) == total:
        change = ', set reduce_zero_label=True in the data set'
        if hasattr(dataset, 'mask_values'):
            change = f': {_option(range(1, total + 1))}'
        if 0 not in classes:
            return f' If they count from 1{change}.'
        return (
            f' If 0 is not a class{change}; if it is one, add a class name '
            'for it.'
        )
    if not takes_values and len(values) > 2 and len(steps) == 1 != max(steps):
        return (
            f' They look like shades for {len(values)} classes: divide them '
            f'by {steps.pop()} '
            '(Pillow: Image.open(p).point(lambda v: v // N).save(p)), or name '
            f'them: {listed}.'
        )
    if len(classes) > total + 20:
        return (
            ' So many values come from resizing with interpolation or from '
            'JPEG: make the masks again, as PNG.'
        )
    if takes_values:
        return (
            ' Name the values of the classes in mask_values, in the order of '
            f'the {total} class names; others are ignored. For example: '
            f'{_option(values[:total])}.'
        )
    if getattr(dataset, 'mask_values', None):
        return (
            f' mask_values is {[*dataset.mask_values]}: list the values that '
            'the classes have in these masks instead.'
        )
    return ' Give each pixel the number of a class, or 255 to ignore it.'


def _option(values: Iterable[int]) -> str:
    """Write the option that names the values of the classes."""
    listed = ','.join(map(str, values))
    return f'mask_values={listed} (docs/your_data.md)'


def ranges(values: np.ndarray | list) -> str:
    """Write increasing numbers as ranges.

    Example:
        >>> ranges([0, 1, 2, 5, 255])
        '0 to 2, 5, 255'
    """
    numbers = [*map(int, values)]
    breaks = [i for i, (a, b) in enumerate(pairwise(numbers), 1) if b > a + 1]
    parts = [
        f'{numbers[start]} to {numbers[end - 1]}'
        if end - start > 1
        else str(numbers[start])
        for start, end in pairwise([0, *breaks, len(numbers)])
    ]
    return ', '.join(parts[:12]) + (', ...' if len(parts) > 12 else '')
