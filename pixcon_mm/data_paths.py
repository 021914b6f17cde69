"""Look for the files that a config wants to read, before it is built."""

import inspect
import os
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import DATASETS

from pixcon_mm.errors import UserError
from pixcon_mm.files import as_line

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
PICTURES = (
    *('.jpg', '.jpeg', '.jpe', '.jfif', '.png', '.bmp', '.gif', '.webp'),
    *('.tif', '.tiff', '.ppm', '.jp2', '.avif', '.heic'),
)


def check_data(cfg: Config, loaders: tuple[str, ...] = LOADERS) -> None:
    """Stop if a data set lacks files, folders or images.

    Images of a segmentation set that the suffix of the set leaves out cause
    a warning on stderr.

    Args:
        cfg (Config): Config with data sets in the manner of MMEngine:
            ``data_root``, ``data_prefix``, ``ann_file``.
        loaders (tuple[str, ...]): The loaders that will be used.

    Raises:
        UserError: With all that ``data_root`` should hold.
    """
    for name in loaders:
        for dataset in leaves((cfg.get(name) or {}).get('dataset') or {}):
            root = dataset.get('data_root')
            # Object stores are not for Path.
            if not isinstance(root, str) or any(
                '://' in part for part in (root, *parts(dataset))
            ):
                continue
            wanted = [Path(root) / part for part in parts(dataset)]
            missing = [path for path in wanted if not path.exists()]
            if missing:
                tree = ''.join(f'\n    {path}' for path in wanted)
                raise UserError(
                    f'There is no {missing[0]}. The {dataset.type} of {name} '
                    f'reads{tree}\nPut them there, or say where they are: '
                    f'--cfg-options data_root=/your/{Path(root).name}/'
                )
            _check_suffix(dataset, cfg.get('default_scope'))


def leaves(dataset: dict) -> Iterator[dict]:
    """Iterate over the data sets inside wrappers such as ConcatDataset."""
    inner = dataset.get('datasets') or [dataset.get('dataset')]
    if not any(inner):
        yield dataset
    for part in filter(None, inner):
        yield from leaves(part)


def class_of(dataset: dict, scope: str | None) -> type | None:
    """Return the class of a data set, None if nothing has its name."""
    kind = dataset.get('type')
    if isinstance(kind, str):
        scoped = kind if '.' in kind or not scope else f'{scope}.{kind}'
        kind = DATASETS.get(scoped)
    return kind


def parts(dataset: dict) -> list[str]:
    """List what a data set reads, relative to its root.

    Example:
        >>> parts(dict(ann_file='a.json', data_prefix=dict(img='images/')))
        ['images/', 'a.json']
    """
    prefix = dataset.get('data_prefix') or {}
    folders = [prefix] if isinstance(prefix, str) else [*prefix.values()]
    return [part for part in [*folders, dataset.get('ann_file')] if part]


def _check_suffix(dataset: dict, scope: str | None) -> None:
    """Compare the images of a folder with the suffix that is listed.

    MMSegmentation's data sets take the files with one suffix, unless a list
    names them.
    """
    suffix = _default(dataset, 'img_suffix', scope)
    if dataset.get('ann_file') or not suffix:
        return
    prefix = dataset.get('data_prefix') or {}
    root = Path(dataset['data_root'])
    folder, labels = (
        root / prefix.get(key, '') for key in ('img_path', 'seg_map_path')
    )
    names = [
        name
        for _, _, files in os.walk(folder)
        for name in files
        if name[0] != '.'
    ]
    if not any(name.endswith(suffix) for name in names):
        raise UserError(
            f'A data set is empty: {as_line(folder)} has no file that ends in '
            f'{suffix!r}, the img_suffix of the {dataset["type"]}.'
        )
    taken = (suffix,)
    if labels == folder:
        taken += (_default(dataset, 'seg_map_suffix', scope),)
    left_out = Counter(
        os.path.splitext(name)[1]
        for name in names
        if name.lower().endswith(PICTURES) and not name.endswith(taken)
    )
    if left_out and int(os.environ.get('LOCAL_RANK', 0)) == 0:
        counts = ', '.join(f'{n} {s}' for s, n in left_out.most_common())
        print(
            f'warning: {as_line(folder)} has images that are left out '
            f'({counts}): the {dataset["type"]} takes files that end in '
            f'{suffix!r} (its img_suffix). Convert the others, or list them '
            'in a second data set with their own img_suffix.',
            file=sys.stderr,
        )


def _default(dataset: dict, name: str, scope: str | None) -> str | None:
    """Return an argument of a data set, or the default of its class."""
    for base in inspect.getmro(class_of(dataset, scope) or object):
        parameter = inspect.signature(base.__init__).parameters.get(name)
        if parameter:
            return dataset.get(name, parameter.default)
    return None
