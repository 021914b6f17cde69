"""Check of the unlabelled images that a pre-training would load."""

from collections.abc import Iterator

from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

from pixcon_mm.data_paths import leaves
from pixcon_mm.datasets.image_header import any_size
from pixcon_mm.datasets.labels.images import in_threads
from pixcon_mm.datasets.labels.report import NOTE, STOP, WARNING
from pixcon_mm.datasets.labels.sources import class_of
from pixcon_mm.datasets.loading import BrokenImageError
from pixcon_mm.datasets.scene_images import SceneImageDataset
from pixcon_mm.errors import UserError
from pixcon_mm.wording import counted, share

SAMPLE = 500  # evenly spaced images that are decoded


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
            step = 1 if everything else max(1, count // SAMPLE)
            found += _decode(dataset, range(0, count, step))
    except UserError as error:
        found.append((STOP, str(error)))
    return found


def _scene_datasets(cfg: Config) -> Iterator[SceneImageDataset]:
    """Build the data sets that a pre-training lists from folders."""
    scope = cfg.get('default_scope')
    loader = cfg.get('train_dataloader') or {}
    with DefaultScope.overwrite_default_scope(scope):
        for leaf in leaves(loader.get('dataset') or {}):
            if class_of(leaf, scope) is SceneImageDataset:
                # The rest of the pipeline does not refuse images.
                first = leaf['pipeline'][:1]
                yield DATASETS.build(dict(leaf, pipeline=first))


def _decode(
    dataset: SceneImageDataset, indices: range
) -> Iterator[tuple[str, str]]:
    """Decode some images; yield the broken ones, and then counts."""

    def problem(index: int) -> str | None:
        try:
            dataset.pipeline(dataset.get_data_info(index))
        except BrokenImageError as error:
            return str(error)
        return None

    with any_size():
        problems = in_threads(problem, indices, 'images')
    broken = [sentence for sentence in problems if sentence]
    for sentence in broken:
        yield WARNING, f'{sentence}: a run would load another image instead.'
    folders = ', '.join(map(str, dataset.folders))
    seen = f'{len(indices):,} of {counted(len(dataset), "image")} decoded'
    if len(broken) == len(indices):
        yield STOP, f'{folders}: {seen}, and all of them are broken.'
    else:
        are = share(len(broken), len(indices), 'image', 'is broken')
        yield NOTE, f'{folders}: {seen}; {are}.'
