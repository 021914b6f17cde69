"""A look at the segmentations of COCO-style JSON: polygons and RLE."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np

from pixcon_mm.datasets.labels.coco_file import ABSENT, CocoAnnotation
from pixcon_mm.datasets.labels.findings import Findings, part, with_bar

# Kinds, what is said of them, and what to do.
NONE, SHORT, FLAT, SIZE, OTHER = 'none', 'short', 'flat', 'size', 'other'
SAYS = {
    NONE: (
        ('has no segmentation', 'have no segmentation'),
        'a Mask R-CNN needs one for each object: add them, or use a config '
        'for boxes alone (faster-rcnn)',
    ),
    SHORT: (
        (
            'has a polygon of fewer than three points',
            'have polygons of fewer than three points',
        ),
        'it is left out in training, and cannot be scored: draw it again, or '
        'take it out',
    ),
    FLAT: (
        (
            'has a segmentation that is no list of lists of numbers',
            'have segmentations that are no lists of lists of numbers',
        ),
        'write each polygon as [x1, y1, x2, y2, ...] in a list of polygons',
    ),
    SIZE: (
        (
            'has an RLE of another size than its image',
            'have an RLE of another size than their image',
        ),
        '"size" is [height, width], and the counts add up to their product',
    ),
    OTHER: (
        (
            'has a segmentation that is neither polygons nor RLE',
            'have segmentations that are neither polygons nor RLE',
        ),
        'write polygons, or an RLE with "size" and "counts"',
    ),
}
# Characters of lists of numbers.
NUMBERS = b'[]0123456789.,+-eE \n\r\t'


@dataclass
class _Case:
    """Annotations with one kind of problem."""

    count: int = 0
    is_certain: bool = False
    first: tuple[Any, str] = field(default=(0, ''))


def look_at_segmentations(
    annotations: list[CocoAnnotation],
    sizes: np.ndarray,
    trains: bool,
    name: str,
    find: Findings,
) -> None:
    """Look for segmentations that cannot be drawn.

    Args:
        annotations (list[CocoAnnotation]): Objects whose masks are drawn.
        sizes (np.ndarray): Width and height of their images. Shape (N, 2).
        trains (bool): MMDetection draws the masks; else pycocotools does,
            which scores them.
        name (str): The file, for sentences.
        find (Findings): Receives what is found.
    """
    cases: dict[str, _Case] = {}
    pairs = with_bar(
        zip(annotations, sizes.tolist(), strict=True),
        len(annotations),
        'segmentations',
    )
    for annotation, (width, height) in pairs:
        for kind, is_certain, detail in _problems(
            annotation.segmentation, width, height, trains
        ):
            case = cases.setdefault(kind, _Case(first=(annotation.id, detail)))
            case.count += 1
            case.is_certain |= is_certain
    for kind, case in cases.items():
        verb, advice = SAYS[kind]
        number, detail = case.first
        tell = find.stop if case.is_certain else find.warn
        count = part(case.count, len(annotations), 'annotation', verb)
        tell(f'{name}: {count} (the first: id {number}{detail}): {advice}.')


def _problems(
    segmentation: Any, width: int, height: int, trains: bool
) -> Iterator[tuple[str, bool, str]]:
    """Iterate over kinds, whether they end the run, and details."""
    if segmentation is ABSENT:
        yield NONE, True, ''
        return
    text = bytes(segmentation)
    if text.startswith(b'['):
        counts = _numbers(text)
        if counts is None:
            yield FLAT, True, ''
        elif not counts:
            yield NONE, True, ''
        elif min(counts) < 6 or any(n % 2 for n in counts):
            shown = f', of {min(counts)} numbers'
            yield SHORT, not trains and counts[0] <= 4, shown
    elif text.startswith(b'{'):
        yield from _problems_of_rle(msgspec.json.decode(text), width, height)
    elif text == b'null':
        yield NONE, True, ''
    else:
        yield OTHER, True, ''


def _numbers(text: bytes) -> list[int] | None:
    """Count the numbers of each polygon without reading them.

    Returns None for a list that does not consist of lists.

    Example:
        >>> _numbers(b'[[1, 2.5, 3], [4]]'), _numbers(b'[]'), _numbers(b'[1]')
        ([3, 1], [], None)
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


def _problems_of_rle(
    rle: dict, width: int, height: int
) -> Iterator[tuple[str, bool, str]]:
    size, counts = rle.get('size'), rle.get('counts')
    if not isinstance(counts, list | str) or not isinstance(size, list):
        yield OTHER, True, ', no "size" or "counts"'
    elif size != [height, width]:
        swapped = ': swapped' if size == [width, height] else ''
        yield (
            SIZE,
            True,
            f', size {size} in an image of height {height} and width {width}'
            f'{swapped}',
        )
    elif isinstance(counts, list) and {*map(type, counts)} - {int, float}:
        yield OTHER, True, ', "counts" that are no numbers'
    elif isinstance(counts, list) and sum(counts) != height * width:
        yield (
            SIZE,
            True,
            f', counts of {sum(counts)} pixels in an image of '
            f'{height * width}',
        )
