"""Option ``--quick``: trial of a recipe that takes a minute on a CPU."""

import copy
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

from mmengine.config import Config
from mmengine.dataset import DefaultSampler
from mmengine.registry import DATA_SAMPLERS

from pixcon_mm.cli import fit_loader, set_epochs
from pixcon_mm.errors import dicts_in

STEPS = 4  # steps of the optimiser
VAL_IMAGES = 4
EDGE = 128  # px; short edge of the largest images
REGIONS = 32  # regions per image, in every stage of a detector
# Keys of sizes in px, in pipelines, preprocessors and a segmentor's test_cfg.
SIZES = ('scale', 'scales', 'crop_size', 'size', 'stride')


@DATA_SAMPLERS.register_module()
class FirstSampler(DefaultSampler):
    """DefaultSampler that ends after some images.

    Args:
        num (int): Number of images per process.
        **kwargs: Arguments of DefaultSampler.
    """

    def __init__(self, num: int, **kwargs):
        super().__init__(**kwargs)
        self.num = num

    def __iter__(self) -> Iterator[int]:
        return islice(super().__iter__(), self.num)

    def __len__(self) -> int:
        return min(self.num, super().__len__())


def make_quick(cfg: Config, given: Iterable[str] = ()) -> str:
    """Shorten a run to a few iterations, a checkpoint and a metric.

    The model does not change, so the checkpoint has all tensors of the recipe.

    Args:
        cfg (Config): Changed in place.
        given (Iterable[str]): Dotted keys that the user has set.

    Returns:
        str: A sentence about the differences from the recipe, and one about
        the user's settings that are replaced.
    """
    before = {key: copy.deepcopy(_value_at(cfg, key)) for key in given}
    batch = 4 if cfg.get('default_scope') == 'mmpretrain' else 2
    own_batch = before.get('train_dataloader.batch_size')
    if isinstance(own_batch, int):
        batch = min(batch, own_batch)
    steps = STEPS * cfg.optim_wrapper.get('accumulative_counts', 1)
    if 'max_epochs' in cfg.train_cfg:
        set_epochs(cfg, 1)
        _take_first(cfg.train_dataloader, batch * steps)
    else:
        cfg.train_cfg.update(max_iters=steps, val_interval=steps)
        # A warm-up lasts until the end, as full steps would come too early.
        parts = [
            part
            for part in dicts_in(cfg.get('param_scheduler'))
            if part.get('begin', 0) < steps
        ]
        for part in parts:
            for end in {'end', 'T_max'} & {*part}:
                part[end] = min(part[end], steps)
            if 'milestones' in part:
                part.milestones = [min(m, steps) for m in part.milestones]
        cfg.param_scheduler = parts
    cfg.train_dataloader.batch_size = batch
    if cfg.get('val_dataloader'):
        _take_first(cfg.val_dataloader, VAL_IMAGES)
    for loader in (cfg.train_dataloader, cfg.get('val_dataloader')):
        if loader:
            loader['num_workers'] = 0
            fit_loader(loader)
    edge = _shrink(cfg)
    for key in ('train_cfg', 'test_cfg'):
        for node in dicts_in(cfg.model.get(key)):
            for count in {'num', 'max_per_img'} & {*node}:
                node[count] = min(node[count], REGIONS)
    hooks = cfg.setdefault('default_hooks', {})
    hooks.setdefault('logger', {'type': 'LoggerHook'})['interval'] = 1
    if cfg.get('auto_scale_lr'):
        # Avoid the warning that the batch differs from the recipe's.
        cfg.auto_scale_lr.base_batch_size = batch * steps // STEPS
    validation = f', tested on {VAL_IMAGES}' if cfg.get('val_cfg') else ''
    note = (
        f'--quick: a trial, not a result: at most {steps} batches of {batch} '
        f'images{validation}, with a short edge of {edge} px or less.'
    )
    replaced = [
        f'{key}={old!r} by {_value_at(cfg, key)!r}'
        for key, old in before.items()
        if _value_at(cfg, key) != old
    ]
    return f'{note} It replaces {", ".join(replaced)}.' if replaced else note


def _value_at(cfg: Config, key: str) -> Any:
    """Return the value of a dotted key, or None if there is none."""
    node: Any = cfg
    try:
        for part in key.split('.'):
            node = node[int(part) if isinstance(node, list | tuple) else part]
    except (KeyError, IndexError, TypeError, ValueError):
        return None
    return node


def _take_first(loader: dict, num: int) -> None:
    """Load only the first images."""
    loader['sampler'] = dict(loader['sampler'], type='FirstSampler', num=num)


def _shrink(cfg: Config) -> int:
    """Scale all images so that the largest have a short edge of ``EDGE``.

    Returns:
        int: Short edge of the largest images, in px.
    """
    loaders = (cfg.train_dataloader, cfg.get('val_dataloader'))
    parts = [loader.dataset for loader in loaders if loader]
    parts += [cfg.model.get(key) for key in ('data_preprocessor', 'test_cfg')]
    # Several pipelines may share a dict, which must be scaled only once.
    nodes = {id(node): node for part in parts for node in dicts_in(part)}
    places = [
        (node, key)
        for node in nodes.values()
        for key in SIZES
        if _edges(node.get(key))
    ]
    largest = max((max(_edges(n[k])) for n, k in places), default=EDGE)
    factor = min(1.0, EDGE / largest)
    for node, key in places:
        node[key] = _scaled(node[key], factor)
    return round(largest * factor)


def _edges(size: Any) -> list[int]:
    """Return the short edges of an int, a pair, or a list of pairs."""
    if isinstance(size, int) and not isinstance(size, bool):
        return [size]
    if isinstance(size, list | tuple) and size:
        if all(isinstance(edge, int) for edge in size):
            return [min(size)]
        return [edge for pair in size for edge in _edges(pair)]
    return []


def _scaled(size: Any, factor: float) -> Any:
    if isinstance(size, list | tuple):
        return type(size)(_scaled(edge, factor) for edge in size)
    return round(size * factor)
