"""Check of the unlabelled images that a pre-training would load."""

from collections.abc import Iterator

from mmengine.config import Config
from mmengine.registry import DATASETS, TRANSFORMS

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
) -> Iterator[tuple[str, str]]:
    """Decode images as a run would; yield levels and sentences.

    Args:
        cfg (Config): Config whose framework has been imported, and whose
            default scope is set.
        everything (bool): Decode all images, instead of 500.
    """
    scope = cfg.get('default_scope')
    loader = cfg.get('train_dataloader') or {}
    for leaf in leaves(loader.get('dataset') or {}):
        # The later transforms refuse no image as broken.
        first = [*(leaf.get('pipeline') or ())][:1]
        if not _is_ours(leaf, first, scope):
            continue
        try:
            dataset = DATASETS.build(dict(leaf, pipeline=first))
            count = len(dataset)
            sample = count if everything else min(count, SAMPLE)
            yield from _decode(
                dataset, [i * count // sample for i in range(sample)]
            )
        except UserError as error:
            yield STOP, str(error)


def _is_ours(leaf: dict, pipeline: list, scope: str | None) -> bool:
    """Check if a data set lists folders and decodes as this project does."""
    dataset = class_of(leaf, scope)
    transform = class_of(pipeline[0], scope, TRANSFORMS) if pipeline else None
    return all(
        isinstance(kind, type) and issubclass(kind, base)
        for kind, base in (
            (dataset, SceneImageDataset),
            (transform, LoadSceneImage),
        )
    )


def _decode(
    dataset: SceneImageDataset, indices: list[int]
) -> Iterator[tuple[str, str]]:
    """Decode some images; yield the broken ones, and then counts.

    Raises:
        UserError: If the storage does not answer. This and Ctrl-C come after
            the images that were found to be broken by then.
    """
    broken: dict[int, str] = {}
    failure: BaseException | None = None

    def decode(index: int) -> None:
        try:
            dataset.pipeline(dataset.get_data_info(index))
        except BrokenImageError as error:
            broken[index] = str(error)

    try:
        with any_size():
            in_threads(decode, indices, 'images')
    except (UserError, KeyboardInterrupt) as error:
        failure = error
    for _, sentence in sorted(broken.items()):
        yield WARNING, f'{sentence}: a run would load another image instead.'
    if failure:
        raise failure
    folders = ', '.join(map(as_line, dataset.folders))
    seen = f'{len(indices):,} of {counted(len(dataset), "image")} decoded'
    if len(broken) == len(indices):
        yield STOP, f'{folders}: {seen}, and all of these are broken.'
    else:
        are = share(len(broken), len(indices), 'image', 'is broken')
        yield NOTE, f'{folders}: {seen}; {are}.'
