"""Check of the files and folders that a config's data sets read."""

from collections.abc import Iterator
from pathlib import Path

from mmengine.config import Config

from pixcon_mm.errors import UserError

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def check_data(cfg: Config, loaders: tuple[str, ...]) -> None:
    """Stop if a data set lacks files or folders.

    Args:
        cfg (Config): Config whose data sets have MMEngine's arguments
            ``data_root``, ``data_prefix``, ``ann_file``.
        loaders (tuple[str, ...]): Names of the loaders that will be used.

    Raises:
        UserError: If something is missing. The message lists all files and
            folders that the data set reads.
    """
    for name in loaders:
        for dataset in leaves((cfg.get(name) or {}).get('dataset') or {}):
            root = dataset.get('data_root')
            if not isinstance(root, str) or is_remote(dataset):
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


def leaves(dataset: dict) -> Iterator[dict]:
    """Iterate over the data sets inside wrappers such as ConcatDataset."""
    inner = dataset.get('datasets') or [dataset.get('dataset')]
    if not any(inner):
        yield dataset
    for part in filter(None, inner):
        yield from leaves(part)


def is_remote(dataset: dict) -> bool:
    """Check if a data set is in an object store, and not in local files."""
    backend = (dataset.get('backend_args') or {}).get('backend', 'local')
    paths = [dataset.get('data_root') or '', *parts(dataset)]
    return backend != 'local' or any('://' in path for path in paths)


def parts(dataset: dict) -> list[str]:
    """List the files and folders that a data set reads, below its root.

    Example:
        >>> parts(dict(ann_file='a.json', data_prefix=dict(img='images/')))
        ['images/', 'a.json']
    """
    prefix = dataset.get('data_prefix') or {}
    folders = [prefix] if isinstance(prefix, str) else [*prefix.values()]
    return [part for part in [*folders, dataset.get('ann_file')] if part]
