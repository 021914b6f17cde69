"""Object discovery without labels; docs/evaluation.md, section 5.

Simeoni et al., LOST, BMVC 2021: the cell that is similar to the fewest other
cells is part of an object, and so are the cells that are similar to it.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from scipy.ndimage import label
from torch import Tensor
from torchvision.ops import box_iou

from pixcon_mm.datasets.image_header import image_size
from pixcon_mm.datasets.labels.coco_file import read_coco
from pixcon_mm.datasets.labels.voc_file import read_voc
from pixcon_mm.errors import UserError
from pixcon_mm.evaluation.trees import check_files
from pixcon_mm.files import as_line

EXPANSION = 100  # cells of low degree that may join the seed
OVERLAP = 0.5  # a box with a larger intersection over union is right
Boxes = np.ndarray  # (n, 4): x1, y1, x2, y2 in pixels


def find_object(features: Tensor) -> tuple[float, float, float, float]:
    """Find one object in an image.

    The mean of the features over the image is subtracted first: the method
    uses the signs of their products, which are never negative after a ReLU.

    Args:
        features (Tensor): Shape (D, h, w).

    Returns:
        tuple: Box (x1, y1, x2, y2) as shares of width and height, in [0, 1].
    """
    grid = features.shape[1:]
    rows = features.flatten(1).T
    rows = rows - rows.mean(dim=0)
    products = rows @ rows.T
    degree = (products > 0).sum(dim=1)
    # A stable sort breaks ties in the same way on every machine.
    order = degree.argsort(stable=True)
    seed = order[0]
    joined = order[:EXPANSION]
    joined = joined[products[joined, seed] > 0]
    similar = products[:, joined].sum(dim=1) > 0
    similar[seed] = True
    parts, _ = label(similar.view(grid).cpu().numpy())
    part = parts == parts[np.unravel_index(seed.item(), grid)]
    ys, xs = part.any(axis=1).nonzero()[0], part.any(axis=0).nonzero()[0]
    return (
        xs[0] / grid[1],
        ys[0] / grid[0],
        (xs[-1] + 1) / grid[1],
        (ys[-1] + 1) / grid[0],
    )


def is_found(box: tuple, truth: Boxes) -> bool:
    """Decide if a box has an IoU of more than ``OVERLAP`` with a true one.

    Args:
        box (tuple): (x1, y1, x2, y2) in pixels.
        truth (np.ndarray): True boxes. Shape (n, 4).

    Example:
        >>> is_found((0, 0, 4, 4), np.array([[0, 0, 4, 3], [9, 9, 10, 10]]))
        True
    """
    boxes = torch.tensor([box], dtype=torch.float64)
    iou = box_iou(boxes, torch.from_numpy(truth).double())
    return bool((iou > OVERLAP).any())


class Objects(NamedTuple):
    """Boxes of an image.

    Attributes:
        path (Path): The image.
        boxes (np.ndarray): Boxes of all its objects. Shape (n, 4).
        size (tuple[int, int], optional): Width and height that the boxes are
            for, if the annotations have them.
    """

    path: Path
    boxes: Boxes
    size: tuple[int, int] | None


def read_objects(root: Path) -> list[Objects]:
    """List the images of a tree that have boxes, each with all its boxes.

    Reads VOC's trainval (``ImageSets/Main/trainval.txt``,
    ``Annotations/*.xml``) or COCO's validation images
    (``annotations/instances_val2017.json``, ``val2017/``, without crowds).

    Raises:
        UserError: If the folder has no annotations of VOC or COCO, or if
            these have no box, or an image is missing.
    """
    names = root / 'ImageSets/Main/trainval.txt'
    coco = root / 'annotations/instances_val2017.json'
    if names.is_file():
        found = [
            _read_xml(root, name)
            for name in dict.fromkeys(names.read_text().split())
        ]
    elif coco.is_file():
        found = _read_coco(coco)
    else:
        raise UserError(
            f'CorLoc needs boxes, and {root} has neither {names} (VOC) nor '
            f'{coco} (COCO).'
        )
    found = [image for image in found if len(image.boxes)]
    if not found:
        raise UserError(f'No image of {root} has a box, which CorLoc needs.')
    check_files(
        (image.path for image in found),
        f'CorLoc takes every image with a box in the annotations of {root}.',
    )
    return found


def check_sizes(objects: Iterable[Objects]) -> None:
    """Stop if boxes are for another size than that of their image.

    Some tools write 0 for a size that they do not know.
    """
    for path, _, size in objects:
        if size is None or 0 in size:
            continue
        found = image_size(str(path))
        if found != size:
            raise UserError(
                f'{as_line(path)} has {found[0]} x {found[1]} pixels, and its '
                f'boxes are for {size[0]} x {size[1]}: an evaluation needs '
                'the images that were annotated.'
            )


def _read_xml(root: Path, name: str) -> Objects:
    file = read_voc(root / f'Annotations/{name}.xml')
    boxes = np.array([o.corners for o in file.objects]).reshape(-1, 4)
    # VOC counts pixels from 1, and the last one belongs to the box.
    boxes = boxes - [1, 1, 0, 0]
    return Objects(root / f'JPEGImages/{name}.jpg', boxes, file.size)


def _read_coco(path: Path) -> list[Objects]:
    content = read_coco(str(path))
    by_image: dict[object, list] = {image.id: [] for image in content.images}
    for one in content.annotations:
        if not one.iscrowd and one.image_id in by_image:
            x, y, width, height = one.bbox
            by_image[one.image_id].append([x, y, x + width, y + height])
    folder = path.parents[1] / 'val2017'
    return [
        Objects(
            folder / image.file_name,
            np.array(by_image[image.id]).reshape(-1, 4),
            (image.width, image.height),
        )
        for image in content.images
    ]
