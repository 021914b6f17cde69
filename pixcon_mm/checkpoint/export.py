"""Backbone weights under the names and in the files of other libraries."""

import functools
import io
import pickle
import re
from collections.abc import Iterable

import numpy as np
import torch

from pixcon_mm.checkpoint.reading import StateDict
from pixcon_mm.errors import UserError

# The first suffix is the default. Detectron2, timm and torch choose their
# reader by it.
SUFFIXES = {
    'mmlab': ('.pth', '.pt'),
    'torchvision': ('.pth', '.pt'),
    'timm': ('.pth', '.pt'),
    'detectron2': ('.pkl',),
    'safetensors': ('.safetensors',),
}
DEPTHS = (18, 34, 50, 101, 152)


@functools.cache
def usual_resnet(depth: int) -> dict[str, tuple[int, ...]]:
    """Shapes of a ResNet's tensors by name, as in torchvision, without fc.

    Example:
        >>> usual_resnet(50)['conv1.weight']
        (64, 3, 7, 7)
        >>> len(usual_resnet(50))
        318
    """
    from torchvision import models

    # On the meta device the weights take neither memory nor time.
    with torch.device('meta'):
        model = models.get_model(f'resnet{depth}', weights=None)
    tensors = to_torchvision(model.state_dict())
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def resnet_depth(names: Iterable[str]) -> int | None:
    """Depth of a plain ResNet, told by the names of its tensors.

    Plain means 7x7 stem, batch norm and convolutions as shortcuts: neither
    a deep stem (V1c) nor an average pool (V1d). A classifier ``fc`` or a
    projection of that name may be there.

    Args:
        names (Iterable[str]): Names of a bare backbone's tensors.

    Returns:
        int | None: 18, 34, 50, 101 or 152, or None for anything else.

    Example:
        >>> resnet_depth(usual_resnet(101))
        101
        >>> resnet_depth(['stem.0.weight', 'layer1.0.conv1.weight'])
    """
    layers = _layers(name for name in names if not name.startswith('fc.'))
    for depth in DEPTHS:
        if layers == _layers(usual_resnet(depth)):
            return depth
    return None


def _layers(names: Iterable[str]) -> set[str]:
    return {name.rpartition('.')[0] for name in names}


def nested_resnets(names: Iterable[str]) -> list[str]:
    """Prefixes under which a checkpoint holds plain ResNets.

    Example:
        >>> nested_resnets(['queue', *(f'q.{n}' for n in usual_resnet(18))])
        ['q.']
    """
    names, last = list(names), 'layer4.0.conv1.weight'
    return [
        prefix
        for prefix in (n.removesuffix(last) for n in names if n.endswith(last))
        if resnet_depth(
            n.removeprefix(prefix) for n in names if n.startswith(prefix)
        )
    ]


def to_mmlab(tensors: StateDict) -> StateDict:
    """Names as in an OpenMMLab model: the backbone without classifier.

    Example:
        >>> list(to_mmlab({'conv1.weight': 1, 'fc.bias': 2}))
        ['backbone.conv1.weight']
    """
    return {f'backbone.{k}': v for k, v in to_torchvision(tensors).items()}


def to_torchvision(tensors: StateDict) -> StateDict:
    """Names as in torchvision and timm: the backbone without classifier.

    Example:
        >>> to_torchvision({'conv1.weight': 1, 'fc.bias': 2})
        {'conv1.weight': 1}
    """
    return {k: v for k, v in tensors.items() if not k.startswith('fc.')}


def to_detectron2(tensors: StateDict) -> StateDict:
    """Names as in Detectron2's ResNet, which counts its stages from 2.

    Example:
        >>> list(to_detectron2({'bn1.bias': 1, 'layer1.0.bn3.bias': 2}))
        ['stem.conv1.norm.bias', 'res2.0.conv3.norm.bias']
    """
    return {
        _detectron2_name(name): tensor
        for name, tensor in to_torchvision(tensors).items()
        if not name.endswith('num_batches_tracked')
    }


def _detectron2_name(name: str) -> str:
    if not name.startswith('layer'):
        name = f'stem.{name}'
    name = re.sub(r'^layer(\d)', lambda m: f'res{int(m[1]) + 1}', name)
    name = re.sub(r'\bbn(\d)', r'conv\1.norm', name)
    name = name.replace('downsample.0', 'shortcut')
    return name.replace('downsample.1', 'shortcut.norm')


RENAMINGS = {
    'mmlab': to_mmlab,
    'torchvision': to_torchvision,
    'timm': to_torchvision,
    'detectron2': to_detectron2,
    'safetensors': to_torchvision,
}


def rename(tensors: StateDict, file_format: str) -> StateDict:
    """A bare backbone under the names of a format.

    Args:
        tensors (dict[str, Tensor]): Backbone, perhaps with ``fc``.
        file_format (str): One of ``SUFFIXES``.

    Raises:
        UserError: If the format has no such backbone.

    Example:
        >>> rename({'norm0.bias': torch.zeros(1)}, 'mmlab')
        {'backbone.norm0.bias': tensor([0.])}
    """
    if file_format != 'mmlab':
        _check_plain(tensors, file_format)
    return RENAMINGS[file_format](tensors)


def encode(
    tensors: StateDict, file_format: str, metadata: dict[str, str]
) -> bytes:
    """Content of the file that a library reads.

    Args:
        tensors (dict[str, Tensor]): Renamed backbone.
        file_format (str): One of ``SUFFIXES``.
        metadata (dict[str, str]): Notes, for the formats that take some.

    Example:
        >>> file = encode({'bn1.bias': torch.zeros(2)}, 'torchvision', {})
        >>> torch.load(io.BytesIO(file))
        {'bn1.bias': tensor([0., 0.])}
    """
    # Copies: of a view, torch would write the whole storage.
    tensors = {
        name: tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    if file_format == 'detectron2':
        return _pickle(tensors)
    if file_format == 'safetensors':
        from safetensors.torch import save

        # Readers look for the framework here: 'pt' is torch.
        return save(tensors, dict(metadata, format='pt'))
    content = tensors
    if file_format == 'mmlab':
        content = dict(state_dict=tensors, meta=metadata)
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def _check_plain(tensors: StateDict, file_format: str) -> None:
    """Refuse all but torchvision's ResNets, with one sentence."""
    depth = resnet_depth(tensors)
    if depth is None:
        raise UserError(
            f'--format {file_format} takes ResNet-18, 34, 50, 101 and 152; '
            f'these {len(tensors)} tensors (the first is '
            f'{next(iter(tensors))!r}) are none of them, or not all of one. '
            'For any other backbone use --format mmlab.'
        )
    expected, given = usual_resnet(depth), to_torchvision(tensors)
    for name in (*expected, *given):
        there = expected.get(name, 'missing')
        here = tuple(given[name].shape) if name in given else 'missing'
        # Torch fills that counter in where it is missing.
        if here != there and not name.endswith('num_batches_tracked'):
            raise UserError(
                f'--format {file_format} takes the usual ResNet-{depth}; its '
                f'{name!r} is {there}, and that of these weights is {here}. '
                'For any other backbone use --format mmlab.'
            )


def _pickle(tensors: StateDict) -> bytes:
    """File of Detectron2's model zoo, with NumPy's float32."""
    content = dict(
        model={k: v.float().numpy() for k, v in tensors.items()},
        __author__='pixcon_mm',
        matching_heuristics=True,
    )
    file = io.BytesIO()
    _ArrayPickler(file, protocol=4).dump(content)
    return file.getvalue()


class _ArrayPickler(pickle.Pickler):
    """Pickles arrays so that every NumPy reads them.

    NumPy 2 refers to a module that the releases before 1.26 do not have,
    and Detectron2 is often found with one of those.
    """

    def reducer_override(self, value: object) -> object:
        if not isinstance(value, np.ndarray):
            return NotImplemented
        # Of a bytearray, the array that is read is writable, as torch asks.
        buffer = bytearray(value.tobytes())
        return np.ndarray, (value.shape, value.dtype.str, buffer)
