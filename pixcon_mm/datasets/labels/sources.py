"""Data sets of a config, and which of their labels a run needs."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope, Registry

from pixcon_mm.data_paths import is_remote, leaves
from pixcon_mm.errors import UserError, dicts_in

# Data sets that read their labels in another way are not checked.
KINDS = {
    'mmdet.CocoDataset': 'coco',
    'mmdet.XMLDataset': 'voc',
    'mmseg.BaseSegDataset': 'masks',
    'pixcon_mm.MaskFolderDataset': 'masks',
    'pixcon_mm.XMLFolderDataset': 'voc',
}


@dataclass(frozen=True)
class Source:
    """A data set whose labels can be checked.

    Args:
        kind (str): ``coco``, ``voc`` or ``masks``.
        loader (str): Name of its loader in the config.
        dataset (Any): The data set of MMDetection or MMSegmentation, without
            its samples. It knows paths, suffixes and class names.
        needs_masks (bool): Instance masks are read or scored.
        num_classes (int | None): Classes of the segmentor's heads.
        sample (int | None): Most files that are opened for their content,
            all if None.
    """

    kind: str
    loader: str
    dataset: Any
    needs_masks: bool = False
    num_classes: int | None = None
    sample: int | None = None

    @property
    def trains(self) -> bool:
        """True if a model learns from it."""
        return self.loader == 'train_dataloader'

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of their numbers."""
        return tuple(self.dataset.metainfo.get('classes') or ())

    def first(self, items: Sequence) -> Sequence:
        """Return the part of items that ``indices`` of the data set keeps."""
        end = self.dataset._indices
        if not isinstance(end, int):
            return items
        return items[:end] if end > 0 else items[end:]


def find_sources(
    cfg: Config, loaders: tuple[str, ...], sample: int | None
) -> Iterator[Source]:
    """Iterate over the data sets of a config whose labels can be checked.

    Raises:
        UserError: If the class names of one cannot be used.
    """
    heads = {
        node['num_classes']
        for node in dicts_in((cfg.get('model') or {}).get('decode_head'))
        if 'num_classes' in node
    }
    scope = cfg.get('default_scope')
    for name in loaders:
        loader = cfg.get(name) or {}
        evaluator = cfg.get(name.replace('dataloader', 'evaluator'))
        metrics = [m for node in dicts_in(evaluator) for m in _metrics(node)]
        for leaf in leaves(loader.get('dataset') or {}):
            kind = _kind_of(leaf, scope)
            if kind is None or is_remote(leaf):
                continue
            with DefaultScope.overwrite_default_scope(scope):
                dataset = _build(leaf, name)
            if dataset is None:
                continue
            yield Source(
                kind,
                name,
                dataset,
                needs_masks=any(d.get('with_mask') for d in dicts_in(leaf))
                or 'segm' in metrics,
                # Another check reports heads that disagree.
                num_classes=max(heads, default=None),
                sample=sample,
            )


def class_of(
    part: Any, scope: str | None, registry: Registry = DATASETS
) -> Any:
    """Return the class of a part of a config, or None without a known one.

    Args:
        part (dict): A data set, or another part; anything else has no class.
        scope (str, optional): The config's default scope.
        registry (Registry): The registry of such parts.
    """
    kind = part.get('type') if isinstance(part, dict) else None
    if isinstance(kind, str):
        scoped = kind if '.' in kind or not scope else f'{scope}.{kind}'
        kind = registry.get(scoped)
    return kind


def _kind_of(leaf: dict, scope: str | None) -> str | None:
    """Say how a data set reads its labels, by the class that defines it."""
    kind = class_of(leaf, scope)
    methods = [
        getattr(kind, name, None)
        for name in ('load_data_list', 'parse_data_info')
    ]
    owners = {
        f'{method.__module__.partition(".")[0]}.'
        f'{method.__qualname__.partition(".")[0]}'
        for method in methods
        if method is not None
    } - {'mmengine.BaseDataset'}
    return KINDS.get(owners.pop()) if len(owners) == 1 else None


def _build(leaf: dict, loader: str) -> Any:
    """Build a data set that has read nothing yet."""
    classes = (leaf.get('metainfo') or {}).get('classes')
    if isinstance(classes, str):
        raise UserError(
            f'The classes of {loader} are the text {classes!r} instead of a '
            f'list of names: for one class, write classes=({classes!r},) with '
            'the comma.'
        )
    try:
        return DATASETS.build(dict(leaf, lazy_init=True, pipeline=[]))
    except (TypeError, KeyError):
        return None  # the runner raises it again, with an explanation
    except ValueError as error:
        # MMSegmentation's, about class names or colours.
        raise UserError(
            f'{leaf["type"]} of {loader} refuses its metainfo: {error} For '
            "class names of your own, use type='BaseSegDataset', with a "
            'palette of one colour per class or without a palette.'
        ) from error


def _metrics(node: dict) -> list[str]:
    metric = node.get('metric') or []
    return [metric] if isinstance(metric, str) else list(metric)
