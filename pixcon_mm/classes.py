"""Class names: the variable ``classes`` of a config, and values made from it.

A config names its classes once, ``classes = ('helmet', 'vest')``. It passes
them to its data sets as ``metainfo``, and their number to its heads. MMEngine
computes these values when it reads the file, so they would stay the same if
the command line or a child config sets other names. This module updates them,
and finds values that disagree.
"""

import colorsys
import os
from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS

from pixcon_mm.data_paths import LOADERS, leaves
from pixcon_mm.errors import UserError
from pixcon_mm.evaluation.metrics import IGNORE
from pixcon_mm.wording import counted

# Heads that always have an output for each class; heads of other names have
# one if they have num_classes.
HEADS = ('bbox_head', 'mask_head', 'decode_head', 'auxiliary_head')
# Heads whose num_classes counts other things: object or not, stuff classes.
OTHER_HEADS = ('rpn_head', 'semantic_head', 'panoptic_head')


def as_names(value: Any) -> tuple[str, ...]:
    """Return class names as a tuple; a single name may be a string.

    Raises:
        UserError: If the value is not made of names, or a name occurs twice.

    Example:
        >>> as_names('helmet')
        ('helmet',)
    """
    names = (value,) if isinstance(value, str) else value
    if not isinstance(names, list | tuple) or not all(
        isinstance(name, str) and name for name in names
    ):
        raise UserError(
            f'classes = {value!r} has no class names: write '
            "classes = ('helmet', 'vest'), or classes=helmet,vest on the "
            'command line.'
        )
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UserError(f'classes has a name twice: {", ".join(twice)}.')
    return tuple(names)


def replace_names(cfg: Config, old: tuple[str, ...]) -> None:
    """Replace old class names in a config by those in ``cfg.classes``.

    Args:
        cfg (Config): Changed in place: ``metainfo`` of the data sets and
            ``num_classes`` of the heads, if they match the old names.
        old (tuple[str, ...]): Names that the config's file used.
    """
    new = cfg.classes
    if new == old:
        return
    infos = [dataset.get('metainfo') for _, dataset in datasets(cfg)]
    for info in [*infos, cfg.get('metainfo')]:
        if info and _names(info) == old:
            info.update(classes=new, palette=colours(len(new)))
    for _, dataset in datasets(cfg):
        if dataset.type == 'VOCDataset' and dataset.get('metainfo'):
            # VOCDataset's metric would print the names of VOC's classes.
            dataset.type = 'XMLDataset'
    for _, head in _heads(cfg):
        if head.get('num_classes') == len(old):
            head['num_classes'] = len(new)


def check_names(cfg: Config) -> None:
    """Stop if there are no class names, or if a data set cannot use them.

    MMSegmentation's benchmark data sets have fixed classes; a config can only
    select some of them.

    Args:
        cfg (Config): The config. Its framework must have been imported.
    """
    if 'classes' not in cfg:
        return
    if not cfg.classes:
        raise UserError(
            f'{cfg.filename} has no class names yet. Name yours in the order '
            'of their numbers: --cfg-options classes=helmet,vest '
            '(docs/your_data.md).'
        )
    if cfg.get('default_scope') != 'mmseg':
        return
    if len(cfg.classes) == 1:
        raise UserError(
            f'{cfg.filename} has only the class {cfg.classes[0]!r}, so the '
            'model could predict nothing else: name the background as a class '
            f'too, as in classes=background,{cfg.classes[0]} '
            '(docs/your_data.md).'
        )
    for place, dataset in datasets(cfg):
        kind = DATASETS.get(f'mmseg.{dataset.type}')
        known = (kind.METAINFO if kind else {}).get('classes')
        other = sorted({*cfg.classes} - {*known}) if known else None
        if other:
            raise UserError(
                f'{place} reads only masks of its own {len(known)} classes, '
                f'which do not include {", ".join(other[:4])}: for your own '
                'masks use configs/segmentation/fcn_r50-d8_custom.py '
                '(docs/your_data.md).'
            )


def colours(count: int) -> list[list[int]]:
    """Return distinct colours, RGB in 0-255, the same in every run.

    The hues are a golden section apart, so that successive colours differ.
    """
    return [
        [
            round(255 * part)
            for part in colorsys.hsv_to_rgb(
                i * 0.618034 % 1, 1 - 0.4 * (i % 2), 1 - 0.3 * (i % 3 == 2)
            )
        ]
        for i in range(count)
    ]


def find_disagreement(cfg: Config) -> str | None:
    """Compare data sets, heads and evaluators with ``cfg.classes``.

    Returns:
        str | None: A sentence about the first disagreement, if any.
    """
    names = cfg.classes
    fix = (
        'Set only the names, by --cfg-options classes=NAME,NAME or a line '
        'classes = (...) in the config: the other values are computed from '
        'them.'
    )
    for place, dataset in datasets(cfg):
        info = dataset.get('metainfo') or {}
        if _names(info) != names:
            return (
                f'{place} has {_count(_names(info))} in its metainfo, but '
                f'the config has {_count(names)}. {fix}'
            )
        palette = info.get('palette')
        if isinstance(palette, list | tuple) and len(palette) != len(names):
            return (
                f'{place} has {len(palette)} colours in its palette for '
                f'{_count(names)}: leave metainfo.palette out, or give each '
                'class one colour.'
            )
    for place, head in _heads(cfg):
        number = head.get('num_classes')
        if number != len(names):
            return (
                f'{place}.num_classes is {number}, but the config has '
                f'{_count(names)}. {fix}'
            )
    return _ignored_disagreement(cfg) or _evaluator_disagreement(cfg)


def compare_trained(
    cfg: Config, trained: Sequence[str], origin: str
) -> str | None:
    """Compare the class names of a config with those of a checkpoint.

    Args:
        cfg (Config): The config; without ``classes``, nothing is compared.
        trained (Sequence[str]): Names in the checkpoint, perhaps none.
        origin (str): Name of the checkpoint for the message.

    Returns:
        str | None: A warning if the names differ.

    Raises:
        UserError: If the config has the same names in another order, so that
            the outputs of the model would get wrong names.
    """
    names, trained = tuple(cfg.get('classes') or ()), tuple(trained)
    pairs = enumerate(zip(names, trained, strict=False))
    number = next((i for i, (a, b) in pairs if a != b), None)
    if not names or number is None:
        return None
    sentence = (
        f'Class {number} is {trained[number]!r} in {origin} and '
        f'{names[number]!r} in the config'
    )
    if sorted(names) != sorted(trained):
        return f'{sentence}: results use the names of the config.'
    raise UserError(
        f'{sentence}, which has the same names in another order: use the '
        f'order of the checkpoint, {", ".join(trained)}.'
    )


def _ignored_disagreement(cfg: Config) -> str | None:
    """Find a part of a segmentor's config that ignores another value."""
    if cfg.get('default_scope') != 'mmseg':
        return None
    parts = [*datasets(cfg), *_heads(cfg)]
    for part in ('val', 'test'):
        parts += [(f'{part}_evaluator', e) for e in _evaluators(cfg, part)]
    for place, node in parts:
        value = node.get('ignore_index', IGNORE)
        if value != IGNORE:
            return (
                f'{place} has ignore_index={value}: leave it out. Padding, '
                f'mask_values and the other parts use {IGNORE} for pixels '
                'without a class, and metrics would be of other pixels than '
                'the loss.'
            )
    return None


def _evaluators(cfg: Config, part: str) -> list[dict]:
    """Return the evaluators of a part, ``val`` or ``test``."""
    evaluators = cfg.get(f'{part}_evaluator') or []
    return [evaluators] if isinstance(evaluators, dict) else evaluators


def _evaluator_disagreement(cfg: Config) -> str | None:
    """Compare the annotations of each evaluator with those of its data."""
    for part in ('val', 'test'):
        loader = cfg.get(f'{part}_dataloader') or {}
        files = {
            os.path.join(
                dataset.get('data_root') or '', dataset.get('ann_file') or ''
            )
            for dataset in leaves(loader.get('dataset') or {})
        }
        # Compare paths without slashes, as one may lack between two parts.
        known = {file.replace('/', '') for file in files}
        for evaluator in _evaluators(cfg, part):
            file = evaluator.get('ann_file')
            if file and known and file.replace('/', '') not in known:
                return (
                    f'{part}_evaluator reads {file}, but {part}_dataloader '
                    f'reads {", ".join(sorted(files))}: both need the same '
                    'annotations.'
                )
    return None


def datasets(cfg: Config) -> Iterator[tuple[str, Any]]:
    """Yield the data sets of all loaders, each with a description of it."""
    for name in LOADERS:
        dataset = (cfg.get(name) or {}).get('dataset')
        for leaf in leaves(dataset) if dataset else ():
            yield f'The {leaf.get("type")} of {name}', leaf


def _heads(cfg: Config) -> Iterator[tuple[str, Any]]:
    """Yield the model's heads with class outputs, each with its dotted key."""
    nodes = [('model', 'model', cfg.get('model') or {})]
    while nodes:
        path, name, node = nodes.pop(0)
        if isinstance(node, list | tuple):
            # The heads of a cascade are in a list, and all have its name.
            nodes += [(f'{path}.{i}', name, n) for i, n in enumerate(node)]
        elif isinstance(node, dict) and name not in OTHER_HEADS:
            has_number = 'num_classes' in node and name.endswith('_head')
            if has_number or (name in HEADS and 'type' in node):
                yield path, node
            nodes += [(f'{path}.{k}', k, n) for k, n in node.items()]


def _names(info: dict) -> tuple[str, ...]:
    names = info.get('classes') or ()
    return (names,) if isinstance(names, str) else tuple(names)


def _count(names: tuple[str, ...]) -> str:
    """Describe names by their number and the first of them."""
    if not names:
        return 'no class names'
    some = [*names[:4], '...'] if len(names) > 4 else names
    return f'{counted(len(names), "class name")} ({", ".join(some)})'
