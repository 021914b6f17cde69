"""Photographs with a class for every pixel, in the folders of data sets."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset

from pixcon_mm.datasets.decoding import PNG, check_png, turn_upright
from pixcon_mm.datasets.loading import BrokenImageError, LoadSceneImage
from pixcon_mm.datasets.transforms import resize
from pixcon_mm.errors import UserError, suggest
from pixcon_mm.evaluation import own_masks
from pixcon_mm.evaluation.metrics import IGNORE
from pixcon_mm.evaluation.trees import (
    check_files,
    layout,
    read_split,
    tree_of,
)
from pixcon_mm.files import as_line


class DenseData(Dataset):
    """Labelled photographs of one split of a data set.

    Args:
        root (str | Path): Folder of one of the layouts in
            :data:`~pixcon_mm.evaluation.trees.TREES`.
        split (str): ``'train'``, ``'val'``, or for VOC any list in
            ImageSets/Segmentation, such as ``'trainaug'``.
        size (tuple[int, int]): Height and width that images are resized to.
        classes (Sequence[str], optional): Names of the classes to use; pixels
            of other classes are ignored. By default all of the data set. For
            masks of the user's own, the names of all their classes.
        mask_values (Sequence[int], optional): For masks of the user's own,
            the value of each class; other values are ignored. None if the
            values are the numbers of the classes, 0, 1, 2, ...

    Raises:
        UserError: If the layout is unknown, if an image has no mask, if a
            class is unknown or named twice, or if masks of the user's own
            have no class names, or do not fit to them.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        size: tuple[int, int],
        classes: Sequence[str] | None = None,
        mask_values: Sequence[int] | None = None,
    ):
        root, self.size = Path(root), size
        self.kind = tree_of(root)
        self.pairs, named, decode = read_split(root, split)
        files = (path for pair in self.pairs for path in pair)
        check_files(files, layout(self.kind))
        if named and mask_values is not None:
            raise UserError(
                f'{root} has the labels of {self.kind}, and mask_values is '
                'for masks of your own (docs/your_data.md): leave it out.'
            )
        if isinstance(classes, str):
            classes = [classes]
        if not named:
            own_masks.check_names(root, classes)
        names = list(named or classes)
        self.classes = list(classes or names)
        for name in self.classes:
            if self.classes.count(name) > 1:
                raise UserError(
                    f'The class {name!r} is named twice: name it once.'
                )
            if name not in names:
                raise UserError(
                    f'{self.kind} has no class {name!r}.{suggest(name, names)}'
                    f' Its classes are {", ".join(names)}.'
                )
        self._decode = decode
        if not named:
            numbers = own_masks.class_numbers(root, split, names, mask_values)
            self._decode = lambda path: numbers[decode(path)]
        # From a label to an index in self.classes.
        self._table = np.full(256, IGNORE, np.uint8)
        for index, name in enumerate(self.classes):
            self._table[names.index(name)] = index
        self._num_labels = len(names)

    def __len__(self) -> int:
        """Return the number of photographs."""
        return len(self.pairs)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Return an image and its mask.

        Returns:
            tuple[Tensor, Tensor]: RGB, resized, uint8, (3, H, W); and classes
            or ``IGNORE``, uint8, in the original size of the photograph,
            (H0, W0).

        Raises:
            UserError: If a file is damaged, or if the mask has another size
                than the image or unknown labels.
        """
        image_path, mask_path = self.pairs[index]
        image = read_image(image_path)
        shape = image.shape[:2]
        try:
            content = mask_path.read_bytes()
            if content.startswith(PNG):  # whose checksums Pillow skips
                check_png(content)
            labels = self._decode(mask_path)
        except (OSError, ValueError) as error:
            raise UserError(
                f'The mask {as_line(mask_path)} cannot be read ({error}): '
                'replace it.'
            ) from error
        if labels.shape != shape:
            raise UserError(
                f'The mask {as_line(mask_path)} has the shape {labels.shape} '
                f'(height, width), but its image has {shape}: replace one.'
            )
        known = labels[labels != IGNORE]
        if known.size and known.max() >= self._num_labels:
            raise UserError(
                f'The mask {as_line(mask_path)} has the label {known.max()}, '
                f'but the labels of {self.kind} are 0 to '
                f'{self._num_labels - 1}, and {IGNORE} for ignored pixels.'
            )
        if self.size != shape:
            image = resize(image, self.size[::-1])
        pixels = torch.from_numpy(image).permute(2, 0, 1)
        return pixels, torch.from_numpy(self._table[labels])


def read_image(path: Path, upright: bool = True) -> np.ndarray:
    """Read a photograph as RGB, uint8, of shape (H, W, 3).

    Args:
        path (Path): The file.
        upright (bool): Turn it as its EXIF data say. Annotators, and the data
            sets of a fine-tuning, see it so; a pre-training does not.

    Raises:
        UserError: If the file is damaged; an evaluation skips no image.
    """
    try:
        content, image = LoadSceneImage().read(str(path))
    except BrokenImageError as error:
        raise UserError(
            f'{error}: an evaluation needs every image, so replace it or '
            'take it out of the list.'
        ) from error
    if upright:
        image = turn_upright(content, image)
    return np.ascontiguousarray(image[..., ::-1])
