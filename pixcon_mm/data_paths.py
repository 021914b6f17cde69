"""Look for what a config wants to read, before anything is built."""

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
    """Stop if files or folders of a data set are not there.

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
            wanted = parts(dataset)
            # Object stores are not for Path.
            if not isinstance(root, str) or '://' in root:
                continue
            missing = [
                part for part in wanted if not (Path(root) / part).exists()
            ]
            if missing:
                tree = ''.join(f'\n    {Path(root) / p}' for p in wanted)
                raise UserError(
                    f'There is no {Path(root) / missing[0]}. The '
                    f'{dataset.type} of {name} reads{tree}\nPut them there, '
                    'or say where they are: --cfg-options '
                    f'data_root=/your/{Path(root).name}/'
                )
            warn_of_left_out(dataset, cfg.get('default_scope'))


def warn_of_left_out(dataset: dict, scope: str | None) -> None:
    """Name the images of a folder that MMSegmentation will not list.

    Its data sets take the files with one suffix, unless a list names them.

    Args:
        dataset (dict): Config of a data set without wrappers.
        scope (str | None): Default scope of the config.
    """
    prefix = dataset.get('data_prefix') or {}
    suffix = suffix_of(dataset, 'img_suffix', scope)
    is_main = int(os.environ.get('LOCAL_RANK', 0)) == 0
    if dataset.get('ann_file') or not suffix or not is_main:
        return
    folder = Path(dataset['data_root']) / prefix.get('img_path', '')
    labels = Path(dataset['data_root']) / prefix.get('seg_map_path', '')
    taken = (suffix,)
    if labels == folder:
        taken += (suffix_of(dataset, 'seg_map_suffix', scope),)
    left_out = Counter(
        os.path.splitext(name)[1]
        for _, _, names in os.walk(folder)
        for name in names
        if name[0] != '.'
        and name.lower().endswith(PICTURES)
        and not name.endswith(taken)
    )
    if left_out:
        counts = ', '.join(f'{n} {s}' for s, n in left_out.most_common())
        print(
            f'warning: {as_line(folder)} has images that are left out '
            f'({counts}): the {dataset["type"]} takes files that end in '
            f'{suffix!r} (its img_suffix). Convert the others, or list them '
            'in a second data set with their own img_suffix.',
            file=sys.stderr,
        )


def suffix_of(dataset: dict, name: str, scope: str | None) -> str | None:
    """A suffix from the config of a data set, or the default of its class.

    Args:
        dataset (dict): Config of a data set without wrappers.
        name (str): ``img_suffix`` or ``seg_map_suffix``.
        scope (str | None): Default scope of the config.

    Returns:
        str | None: None for a class that takes no such argument.
    """
    kind = dataset['type']
    if isinstance(kind, str):
        scoped = kind if '.' in kind or not scope else f'{scope}.{kind}'
        kind = DATASETS.get(scoped)
    for base in inspect.getmro(kind or object):
        parameter = inspect.signature(base.__init__).parameters.get(name)
        if parameter:
            return dataset.get(name, parameter.default)
    return None


def leaves(dataset: dict) -> Iterator[dict]:
    """The data sets inside wrappers as ConcatDataset."""
    inner = dataset.get('datasets') or [dataset.get('dataset')]
    if not any(inner):
        yield dataset
    for part in filter(None, inner):
        yield from leaves(part)


def parts(dataset: dict) -> list[str]:
    """What a data set reads, relative to its root.

    Example:
        >>> parts(dict(ann_file='a.json', data_prefix=dict(img='images/')))
        ['images/', 'a.json']
    """
    prefix = dataset.get('data_prefix') or {}
    folders = [prefix] if isinstance(prefix, str) else [*prefix.values()]
    return [part for part in [*folders, dataset.get('ann_file')] if part]
