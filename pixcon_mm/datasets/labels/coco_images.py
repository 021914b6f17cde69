"""A look at the images that COCO-style JSON lists."""

import os

import numpy as np

from pixcon_mm.datasets.labels.coco_file import CocoImage
from pixcon_mm.datasets.labels.findings import (
    Findings,
    counted,
    image_size,
    missing_files,
    part,
    spread,
)
from pixcon_mm.datasets.labels.sources import Source
from pixcon_mm.errors import UserError
from pixcon_mm.files import as_line


def read_sizes(images: list[CocoImage], name: str) -> np.ndarray:
    """Return width and height of all images in pixels. Shape (N, 2).

    Raises:
        UserError: If one is not positive.
    """
    sizes = np.array([(i.width, i.height) for i in images], float)
    wrong = np.flatnonzero((sizes <= 0).any(1))
    if len(wrong):
        image = images[wrong[0]]
        raise UserError(
            f'{name}: image id {image.id} has width {image.width!r} and '
            f'height {image.height!r}: write its pixels.'
        )
    return sizes


def look_for_images(
    images: list[CocoImage],
    has_object: np.ndarray,
    sizes: np.ndarray,
    source: Source,
    name: str,
    find: Findings,
) -> None:
    """Find images that are missing or of another size.

    Args:
        images (list[CocoImage]): All N images of the file.
        has_object (np.ndarray): Those with an object. bool, shape (N,).
        sizes (np.ndarray): Width and height by the file. Shape (N, 2).
        source (Source): The data set.
        name (str): The file, for sentences.
        find (Findings): Receives what is found.
    """
    dataset = source.dataset
    folder = dataset.data_prefix.get('img', '')
    paths = [os.path.join(folder, str(i.file_name)) for i in images]
    find.saw({os.path.dirname(path) for path in paths})
    options = dataset.filter_cfg or {}
    if source.trains and options.get('filter_empty_gt'):
        read = np.flatnonzero(has_object)
    else:
        read = np.arange(len(images))
    if isinstance(dataset._indices, int):
        end = dataset._indices
        read = read[:end] if end > 0 else read[end:]
    missing = missing_files(paths[i] for i in read)
    if missing:
        first = next(i for i in read if paths[i] in missing)
        find.stop(
            f'{name}: {part(len(missing), len(read), "image", ("is", "are"))} '
            f'not there (the first: id {images[first].id}, '
            f'{as_line(paths[first])}): put them there, or take them out of '
            'the file.'
        )
    here = spread([i for i in read if paths[i] not in missing], source.sample)
    find.saw(paths[i] for i in here)
    others = []
    for i in here:
        try:
            size = image_size(paths[i])
        except OSError as error:
            find.stop(
                f'{as_line(paths[i])} cannot be read as an image ({error}): '
                'replace it, or take it out of the data set.'
            )
            break
        if size != (sizes[i][0], sizes[i][1]):
            others.append((i, size))
    if others:
        i, size = others[0]
        find.warn(
            f'{name}: {counted(len(others), "image")} of those opened '
            f'{"has" if len(others) == 1 else "have"} another size than the '
            f'file says, so boxes may not fit (the first: '
            f'{as_line(paths[i])}, {size[0]} x {size[1]} and not '
            f'{sizes[i][0]:g} x {sizes[i][1]:g}): annotate the images as '
            'they are, or scale the boxes.'
        )
