"""A look at the boxes of COCO-style JSON."""

import numpy as np

from pixcon_mm.datasets.labels.coco_file import CocoAnnotation
from pixcon_mm.datasets.labels.findings import Findings, part
from pixcon_mm.errors import UserError

TOLERANCE = 2.0  # pixels that a box may reach beyond its image


def read_boxes(annotations: list[CocoAnnotation], name: str) -> np.ndarray:
    """Return all boxes as x, y, width, height. Shape (N, 4).

    Raises:
        UserError: If one is no list of four numbers.
    """
    for a in annotations:
        box = a.bbox
        if len(box) != 4 or not {*map(type, box)} <= {int, float}:
            raise UserError(
                f'{name}: annotation id {a.id} has the bbox {box!r}: write '
                'four numbers, [x, y, width, height] in pixels.'
            )
    return np.array([a.bbox for a in annotations], float).reshape(-1, 4)


def look_at_boxes(
    annotations: list[CocoAnnotation],
    boxes: np.ndarray,
    sizes: np.ndarray,
    is_used: np.ndarray,
    name: str,
    find: Findings,
) -> np.ndarray:
    """Find boxes that the data set leaves out; return which it keeps.

    Args:
        annotations (list[CocoAnnotation]): All N annotations.
        boxes (np.ndarray): Their boxes. Shape (N, 4).
        sizes (np.ndarray): Width and height of their images. Shape (N, 2).
        is_used (np.ndarray): Annotations whose class and image are known;
            others are not reported. bool, shape (N,).
        name (str): The file, for sentences.
        find (Findings): Receives what is found.

    Raises:
        UserError: If all boxes are shares of the image.
    """
    start, end = boxes[:, :2], boxes[:, :2] + boxes[:, 2:]
    inside = np.minimum(end, sizes) - np.maximum(start, 0)
    area = np.array([a.area for a in annotations], float)
    is_flat = (boxes[:, 2:] < 1).any(1) | (area <= 0)
    is_outside = (inside <= 0).any(1) & ~is_flat
    beyond = np.maximum(end - sizes, -start).max(1, initial=0)
    is_beyond = (beyond > TOLERANCE) & ~is_flat & ~is_outside
    total = int(is_used.sum())
    if total and boxes[is_used].max() <= 1 and boxes[is_used].min() >= 0:
        raise UserError(
            f'{name}: all boxes lie between 0 and 1 (the first: annotation id '
            f'{annotations[int(np.argmax(is_used))].id}), as shares of the '
            'image: multiply them by its width and height.'
        )

    def report(which: np.ndarray, says: tuple[str, str], advice: str) -> None:
        found = np.flatnonzero(which & is_used)
        if len(found):
            first = annotations[found[0]]
            width, height = sizes[found[0]]
            find.warn(
                f'{name}: {part(len(found), total, "box", says)} (the first: '
                f'annotation id {first.id}, {first.bbox}, in an image of '
                f'{width:g} x {height:g}){advice}.'
            )

    report(
        is_flat,
        ('has no area and is left out', 'have no area and are left out'),
        ': take them out, or correct "bbox" and "area"',
    )
    is_many = (is_beyond | is_outside)[is_used].mean() > 0.2 if total else 0
    corners = (
        '; COCO writes x, y, width, height, and these may be two corners'
        if is_many
        else ''
    )
    report(
        is_outside,
        ('lies outside and is left out', 'lie outside and are left out'),
        corners,
    )
    report(
        is_beyond,
        ('reaches beyond its image', 'reach beyond their images'),
        corners,
    )
    return ~is_flat & ~is_outside
