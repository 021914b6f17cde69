"""Images and masks of the user's own, in the folders of docs/your_data.md.

The data set and the label check are those of a fine-tuning.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from mmengine.config import Config
from PIL import Image

from pixcon_mm.cli import quiet
from pixcon_mm.datasets.labels import find_problems
from pixcon_mm.datasets.labels.mask_values import labels_of_values, mask_labels
from pixcon_mm.datasets.labels.masks import problem_of
from pixcon_mm.datasets.labels.report import STOP, WARNING
from pixcon_mm.datasets.loading import warn
from pixcon_mm.errors import UserError

# A label check is repeated for each protocol.
_warn_once = cache(warn)


def list_pairs(root: Path, split: str) -> list[tuple[Path, Path]]:
    """List the images of a split, each with the mask of the same name."""
    if not (root / 'images' / split).is_dir():
        return []
    kind, settings = _data_set(root, split, classes=())
    samples = kind(**settings, lazy_init=True).load_data_list()
    return [
        (Path(sample['img_path']), Path(sample['seg_map_path']))
        for sample in samples
    ]


def read_values(path: Path) -> np.ndarray:
    """Read the values of a mask, uint8 (H, W).

    Raises:
        OSError: If it cannot be read.
        ValueError: If it has colours, or values that do not fit into 8 bits.
    """
    with Image.open(path) as picture:
        values = np.array(picture)
    problem = problem_of(values)
    if problem:
        raise ValueError(f'it {problem}')
    return values.astype(np.uint8)


def check_names(root: Path, classes: Sequence[str] | None) -> None:
    """Stop if there are no class names, or only one."""
    if not classes:
        raise UserError(
            f'The masks of {root} have no class names: list the names of all '
            'classes, in the order of their numbers, as in --classes '
            'wall,door,window (docs/evaluation.md).'
        )
    if len(classes) == 1:
        raise UserError(
            f'With one class, {classes[0]!r}, every pixel would be right: '
            'name the background as well, as in --classes '
            f'background,{classes[0]}.'
        )


def class_numbers(
    root: Path,
    split: str,
    classes: Sequence[str],
    mask_values: Sequence[int] | None,
) -> np.ndarray:
    """Check the masks of a split, and say what their values mean.

    Args:
        root (Path): Folder of the data set.
        split (str): Name of the split.
        classes (Sequence[str]): Names of all classes.
        mask_values (Sequence[int], optional): Value of each class in the
            masks; None if the values are the numbers of the classes.

    Returns:
        np.ndarray: Number of the class of each value, uint8, 255 for a value
        that is ignored. Shape (256,).

    Raises:
        UserError: If the label check finds something that would stop a
            fine-tuning.
    """
    kind, settings = _data_set(root, split, classes)
    loader = f'{split}_dataloader'
    dataset = dict(settings, type=kind, mask_values=mask_values)
    cfg = Config({'default_scope': 'mmseg', loader: dict(dataset=dataset)})
    for level, sentence in find_problems(cfg, (loader,)):
        if level == STOP:
            raise UserError(sentence)
        if level == WARNING:
            _warn_once(sentence.replace(loader, f'{root}/masks/{split}'))
    labels = mask_labels(mask_values, classes) or {}
    return labels_of_values(labels, is_reduced=False).astype(np.uint8)


def _data_set(
    root: Path, split: str, classes: Sequence[str]
) -> tuple[type, dict]:
    with quiet():  # imports MMSegmentation
        from pixcon_mm.datasets.mask_folder import MaskFolderDataset
    folders = dict(img_path=f'images/{split}', seg_map_path=f'masks/{split}')
    return MaskFolderDataset, dict(
        data_root=str(root),
        data_prefix=folders,
        metainfo=dict(classes=tuple(classes)),
    )
