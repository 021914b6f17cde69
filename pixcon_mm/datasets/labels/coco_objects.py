"""Check of the boxes and segmentations of COCO-style JSON."""

from collections import defaultdict
from typing import Any

import msgspec
import numpy as np

from pixcon_mm.datasets.labels.coco_file import ABSENT, CocoAnnotation
from pixcon_mm.datasets.labels.report import STOP, WARNING, Report
from pixcon_mm.errors import UserError
from pixcon_mm.progress import with_progress

TOLERANCE = 2.0  # pixels that a box may reach beyond its image
# Characters of lists of numbers.
NUMBERS = b'[]0123456789.,+-eE \n\r\t'
# Problems of segmentations, and what to do.
NONE = 'has no segmentation'
SHORT = 'has a polygon of fewer than three points'
FLAT = 'has a segmentation that is not a list of lists of numbers'
SIZE = 'has an RLE whose size is not that of the image'
OTHER = 'has a segmentation that is neither polygons nor RLE'
ADVICE = {
    NONE: 'a Mask R-CNN needs one for each object, so add them, or use a '
    'config for boxes alone (faster-rcnn)',
    SHORT: 'it is left out in training and cannot be scored, so draw it '
    'again, or remove it',
    FLAT: 'write each polygon as [x1, y1, x2, y2, ...] in a list of polygons',
    SIZE: '"size" is [height, width], and the counts add up to their product',
    OTHER: 'write polygons, or an RLE with "size" and "counts"',
}


def check_boxes(
    annotations: list[CocoAnnotation],
    sizes: np.ndarray,
    is_used: np.ndarray,
    report: Report,
) -> np.ndarray:
    """Report boxes without area or outside; return which the data set keeps.

    Args:
        annotations (list[CocoAnnotation]): All N annotations.
        sizes (np.ndarray): Width and height of their images. Shape (N, 2).
        is_used (np.ndarray): Annotations whose class and image are known;
            others are not reported. bool, shape (N,).
        report (Report): Receives the findings.

    Returns:
        np.ndarray: bool, shape (N,).

    Raises:
        UserError: If a box is not four numbers, or all boxes are shares of
            the image.
    """
    for a in annotations:
        if len(a.bbox) != 4 or not {*map(type, a.bbox)} <= {int, float}:
            raise UserError(
                f'{report.name}: annotation id {a.id} has the bbox {a.bbox!r}:'
                ' write four numbers, [x, y, width, height] in pixels.'
            )
    boxes = np.array([a.bbox for a in annotations], float).reshape(-1, 4)
    total = int(is_used.sum())
    if total and boxes[is_used].max() <= 1 and boxes[is_used].min() >= 0:
        raise UserError(
            f'{report.name}: all boxes lie between 0 and 1 (the first: '
            f'annotation id {annotations[int(np.argmax(is_used))].id}), as '
            'shares of the image: multiply them by its width and height.'
        )
    start, end = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    inside = np.minimum(end, sizes) - np.maximum(start, 0)
    area = np.array([a.area for a in annotations], float)
    is_flat = (boxes[:, 2:] < 1).any(1) | (area <= 0)
    is_outside = (inside <= 0).any(1) & ~is_flat
    beyond = np.maximum(end - sizes, -start).max(1, initial=0)
    is_beyond = (beyond > TOLERANCE) & ~is_flat & ~is_outside
    is_many = total and (is_beyond | is_outside)[is_used].mean() > 0.2
    advice = (
        'COCO writes x, y, width, height, and these may be two corners'
        if is_many
        else 'correct or remove them'
    )

    def describe(index: int) -> str:
        width, height = sizes[index]
        return (
            f'annotation id {annotations[index].id}, '
            f'{annotations[index].bbox}, in an image of {width:g} x {height:g}'
        )

    for which, verb, what_to_do in (
        (
            is_flat,
            'has no area',
            'such boxes are left out; remove them, or correct "bbox" and '
            '"area"',
        ),
        (is_outside, 'lies outside', f'such boxes are left out; {advice}'),
        (is_beyond, 'extends beyond the image', advice),
    ):
        cases = np.flatnonzero(which & is_used)
        report.add_cases(
            WARNING, cases, total, 'box', verb, what_to_do, describe
        )
    return ~is_flat & ~is_outside


def check_segmentations(
    annotations: list[CocoAnnotation],
    sizes: np.ndarray,
    trains: bool,
    report: Report,
) -> None:
    """Report segmentations that cannot be drawn.

    Args:
        annotations (list[CocoAnnotation]): Objects whose masks are drawn.
        sizes (np.ndarray): Width and height of their images. Shape (N, 2).
        trains (bool): MMDetection draws the masks; else pycocotools does,
            which scores them.
        report (Report): Receives the findings.
    """
    cases = defaultdict[str, list[str]](list)
    fatal = {NONE, FLAT, SIZE, OTHER}
    pairs = zip(annotations, sizes.tolist(), strict=True)
    for annotation, (width, height) in with_progress(
        pairs, len(annotations), 'segmentations'
    ):
        problem = _problem(annotation.segmentation, width, height)
        if problem:
            kind, detail, is_unscored = problem
            cases[kind].append(f'id {annotation.id}{detail}')
            if is_unscored and not trains:
                fatal.add(kind)
    for kind, found in cases.items():
        level = STOP if kind in fatal else WARNING
        report.add_cases(
            level, found, len(annotations), 'annotation', kind, ADVICE[kind]
        )


def _problem(
    segmentation: Any, width: int, height: int
) -> tuple[str, str, bool] | None:
    """Return the problem, a detail, and if pycocotools fails at it."""
    text = b'null' if segmentation is ABSENT else bytes(segmentation)
    if text == b'null':
        return NONE, '', True
    if text.startswith(b'['):
        counts = count_numbers(text)
        if counts is None:
            return FLAT, '', True
        if not counts:
            return NONE, '', True
        if min(counts) < 6 or any(n % 2 for n in counts):
            return SHORT, f', of {min(counts)} numbers', counts[0] <= 4
        return None
    if not text.startswith(b'{'):
        return OTHER, '', True
    rle = msgspec.json.decode(text)
    size, counts = rle.get('size'), rle.get('counts')
    if not isinstance(counts, list | str) or not isinstance(size, list):
        return OTHER, ', no "size" or "counts"', True
    if size != [height, width]:
        swapped = ': swapped' if size == [width, height] else ''
        image = f'in an image of height {height} and width {width}'
        return SIZE, f', size {size} {image}{swapped}', True
    if isinstance(counts, str):
        counts = decode_counts(counts)
        if counts is None:
            return OTHER, ', "counts" that are not a compressed RLE', True
    if {*map(type, counts)} - {int, float} or min(counts, default=0) < 0:
        return (
            OTHER,
            ', "counts" with values that are negative or not numbers',
            True,
        )
    if sum(counts) != height * width:
        image = f'in an image of {height * width}'
        return SIZE, f', counts of {sum(counts)} pixels {image}', True
    return None


def decode_counts(text: str) -> list[int] | None:
    """Decode the lengths of runs from the text of a compressed RLE.

    A character holds five bits of a number, the lowest first; a sixth one says
    that more follow, and the highest of the last five is the sign. From the
    fourth number on, each is stored as the difference from the number two
    places before.

    Returns None if the text is invalid. pycocotools would not notice, and
    would read past its end.

    Example:
        >>> decode_counts('52203'), decode_counts('5P')
        ([5, 2, 2, 2, 5], None)
    """
    if not text:
        return []
    if not text.isascii():
        return None
    bits = np.frombuffer(text.encode(), np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero(bits < 32)
    if not ends.size or ends[-1] != len(bits) - 1:
        return None
    starts = np.append(0, ends[:-1] + 1)
    place = np.arange(len(bits)) - np.repeat(starts, ends - starts + 1)
    if bits.min() < 0 or bits.max() > 63 or place.max() > 11:
        return None
    numbers = np.add.reduceat((bits & 31) << 5 * place, starts)
    numbers -= np.where(bits[ends] & 16, 1 << 5 * (place[ends] + 1), 0)
    for first in (1, 2):
        numbers[first::2] = numbers[first::2].cumsum()
    return numbers.tolist()


def count_numbers(text: bytes) -> list[int] | None:
    """Count the numbers of each polygon without reading them.

    Returns None for a list that does not consist of lists.

    Example:
        >>> count_numbers(b'[[1, 2.5, 3], [4]]'), count_numbers(b'[1]')
        ([3, 1], None)
    """
    if text.translate(None, NUMBERS):
        return None  # a text, null or an object among them
    counts = []
    for polygon in text[1:-1].split(b']'):
        before, bracket, numbers = polygon.partition(b'[')
        if bracket and not before.strip(b' ,\n\r\t'):
            counts.append(numbers.count(b',') + bool(numbers.strip()))
        elif polygon.strip():
            return None
    return counts
