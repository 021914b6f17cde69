"""Check of the unlabelled images that a pre-training would load."""

from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

from pixcon_mm.data_paths import leaves
from pixcon_mm.datasets.image_header import any_size
from pixcon_mm.datasets.labels.images import in_threads
from pixcon_mm.datasets.labels.report import NOTE, STOP, WARNING
from pixcon_mm.datasets.labels.sources import class_of
from pixcon_mm.datasets.loading import BrokenImageError, LoadSceneImage
from pixcon_mm.datasets.scene_images import SceneImageDataset
from pixcon_mm.errors import UserError
from pixcon_mm.files import as_line
from pixcon_mm.wording import counted, share

SAMPLE = 500  # most images, evenly spaced, that are decoded by default


def find_broken(
    cfg: Config, everything: bool = False
) -> list[tuple[str, str]]:
    """Decode images as a run would; return levels and sentences.

    Args:
        cfg (Config): Config whose framework has been imported.
        everything (bool): Decode all images, instead of 500.
    """
    found: list[tuple[str, str]] = []
    try:
        for dataset in _scene_datasets(cfg):
            count = len(dataset)
            sample = count if everything else min(count, SAMPLE)
            found += _decode(
                dataset, [i * count // sample for i in range(sample)]
            )
    except UserError as error:
        found.append((STOP, str(error)))
    return found


def _scene_datasets(cfg: Config) -> Iterator[SceneImageDataset]:
    """Build the data sets that a pre-training lists from folders."""
    scope = cfg.get('default_scope')
    loader = cfg.get('train_dataloader') or {}
    with DefaultScope.overwrite_default_scope(scope):
        for leaf in leaves(loader.get('dataset') or {}):
            # The rest of the pipeline does not refuse images.
            first = [*(leaf.get('pipeline') or ())][:1]
            if _lists_folders(class_of(leaf, scope)) and _loads_scenes(first):
                yield DATASETS.build(dict(leaf, pipeline=first))


def _lists_folders(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, SceneImageDataset)


def _loads_scenes(pipeline: list) -> bool:
    """Check if a pipeline begins by decoding as this project does."""
    kind = [step.get('type') for step in pipeline if isinstance(step, dict)]
    names = ('LoadSceneImage', 'mmpretrain.LoadSceneImage', LoadSceneImage)
    return bool(kind) and kind[0] in names


def _decode(
    dataset: SceneImageDataset, indices: list[int]
) -> Iterator[tuple[str, str]]:
    """Decode some images; yield the broken ones, and then counts.

    Raises:
        UserError: If the storage does not answer, after the images that were
            found to be broken by then.
    """
    broken: dict[int, str] = {}
    failure = None

    def decode(index: int) -> None:
        try:
            dataset.pipeline(dataset.get_data_info(index))
        except BrokenImageError as error:
            broken[index] = str(error)

    try:
        with any_size():
            in_threads(decode, indices, 'images')
    except UserError as error:
        failure = error
    for _, sentence in sorted(broken.items()):
        yield WARNING, f'{sentence}: a run would load another image instead.'
    if failure:
        raise failure
    folders = ', '.join(map(as_line, dataset.folders))
    seen = f'{len(indices):,} of {counted(len(dataset), "image")} decoded'
    if len(broken) == len(indices):
        yield STOP, f'{folders}: {seen}, and all of them are broken.'
    else:
        are = share(len(broken), len(indices), 'image', 'is broken')
        yield NOTE, f'{folders}: {seen}; {are}.'
