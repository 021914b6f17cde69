"""Look for what a config wants to read, before anything is built."""

from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config

from pixcon_mm.errors import UserError

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def check_data(cfg: Config, loaders: tuple[str, ...] = LOADERS) -> None:
    """Stop if files or folders of a data set are not there.

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
