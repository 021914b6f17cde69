"""Report of the images that cannot be read."""

from collections.abc import Iterator
from pathlib import Path

from mmengine.dist import all_reduce, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from pixcon_mm.errors import UserError
from pixcon_mm.files import as_line, atomic_write

MAX_NAMES = 5  # of images, in the warning


@HOOKS.register_module()
class SceneDatasetHook(Hook):
    """Report images that a ``SceneImageDataset`` found broken.

    There is one warning per epoch. The file ``broken_images.txt`` in the work
    directory has all paths, one per line as :func:`pixcon_mm.files.as_line`
    writes it. Nothing happens with datasets of other types, so that all tasks
    can use the same runtime config.
    """

    def __init__(self):
        self._reported: set[str] = set()

    def before_train(self, runner) -> None:
        """Share the list of broken images with the loader's workers."""
        for dataset in scene_datasets(runner.train_dataloader.dataset):
            dataset.share_memory()

    def after_train_epoch(self, runner) -> None:
        """Report the images that any rank found broken in this epoch."""
        datasets = list(scene_datasets(runner.train_dataloader.dataset))
        for dataset in datasets:
            # Every rank learns what the others found.
            flags = dataset.broken.clone()
            all_reduce(flags, op='max')
            dataset.broken.copy_(flags)
        paths = [path for data in datasets for path in data.broken_paths()]
        new = [path for path in paths if path not in self._reported]
        self._reported.update(new)
        if not new or not is_main_process():
            return
        listing = Path(runner.work_dir) / 'broken_images.txt'
        lines = ''.join(f'{as_line(path)}\n' for path in paths)
        try:
            atomic_write(listing, lines.encode())
            where = f'All of them are listed in {listing}.'
        except UserError as error:
            # A full disk should not end a run because of a list.
            where = f'No list of them was written ({error.__cause__}).'
        names = ', '.join(map(as_line, new[:MAX_NAMES]))
        more = ', ...' if len(new) > MAX_NAMES else ''
        runner.logger.warning(
            f'{len(paths)} of {sum(map(len, datasets))} images cannot be read '
            'and are replaced by others; found in this epoch: '
            f'{names}{more} ({len(new)}). {where}'
        )


def scene_datasets(dataset) -> Iterator:
    """Find the datasets that know broken images inside wrappers.

    Args:
        dataset: A dataset, or a ``ConcatDataset``, ``RepeatDataset`` or
            similar wrapper of datasets.

    Yields:
        SceneImageDataset: Recognised by its methods, because importing the
        class imports MMPretrain, which a detection run does not need.
    """
    # Not getattr(), because the runner's slice forwards unknown attributes.
    inner = getattr(dataset, '__dict__', {})
    if hasattr(type(dataset), 'broken_paths'):
        yield dataset
    for name in ('dataset', '_dataset'):
        if name in inner:
            yield from scene_datasets(inner[name])
    for part in inner.get('datasets', ()):
        yield from scene_datasets(part)
