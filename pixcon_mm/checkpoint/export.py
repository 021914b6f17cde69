"""Backbone weights under the names and in the files of other libraries."""

import functools
import io
import pickle
import re
from collections.abc import Iterable

import numpy as np
import torch

from pixcon_mm.checkpoint.torch_file import StateDict
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
    """Return the shapes of torchvision's ResNet by name, without ``fc``.

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
    tensors = _without_classifier(model.state_dict())
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def resnet_depth(names: Iterable[str]) -> int | None:
    """Find the depth of a plain ResNet from the names of its tensors.

    Plain means neither a deep stem (V1c) nor an average pool in the shortcuts
    (V1d). A classifier ``fc`` or a projection of that name is ignored.

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


def nested_resnets(names: Iterable[str]) -> list[str]:
    """List the prefixes under which a checkpoint holds plain ResNets.

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


def rename(tensors: StateDict, file_format: str) -> StateDict:
    """Rename a bare backbone for a format, and leave out its classifier.

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
    tensors = _without_classifier(tensors)
    if file_format == 'mmlab':
        return {f'backbone.{k}': v for k, v in tensors.items()}
    if file_format == 'detectron2':
        return {
            detectron2_name(k): v
            for k, v in tensors.items()
            if not k.endswith('num_batches_tracked')
        }
    return tensors


def encode(
    tensors: StateDict, file_format: str, metadata: dict[str, str]
) -> bytes:
    """Return the content of the file that a library reads.

    Args:
        tensors (dict[str, Tensor]): Renamed backbone.
        file_format (str): One of ``SUFFIXES``.
        metadata (dict[str, str]): Notes, for the formats that take some.

    Example:
        >>> file = encode({'bn1.bias': torch.zeros(2)}, 'torchvision', {})
        >>> torch.load(io.BytesIO(file))
        {'bn1.bias': tensor([0., 0.])}
    """
    # Copies, because torch would write the whole storage of a view.
    tensors = {
        name: tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in tensors.items()
    }
    file = io.BytesIO()
    if file_format == 'detectron2':
        # As in Detectron2's model zoo, with NumPy's float32.
        content = dict(
            model={k: v.float().numpy() for k, v in tensors.items()},
            __author__='pixcon_mm',
            matching_heuristics=True,
        )
        pickler = pickle.Pickler(file, protocol=4)
        # NumPy 2's own way refers to a module that NumPy 1.25 lacks.
        pickler.dispatch_table = {np.ndarray: _reduce_array}
        pickler.dump(content)
    elif file_format == 'safetensors':
        from safetensors.torch import save

        # Readers look for the framework here: 'pt' is torch.
        return save(tensors, dict(metadata, format='pt'))
    elif file_format == 'mmlab':
        torch.save(dict(state_dict=tensors, meta=metadata), file)
    else:
        torch.save(tensors, file)
    return file.getvalue()


def _without_classifier(tensors: StateDict) -> StateDict:
    return {k: v for k, v in tensors.items() if not k.startswith('fc.')}


def _layers(names: Iterable[str]) -> set[str]:
    return {name.rpartition('.')[0] for name in names}


def detectron2_name(name: str) -> str:
    """Rename a tensor as Detectron2, which counts stages from 2."""
    if not name.startswith('layer'):
        name = f'stem.{name}'
    name = re.sub(r'^layer(\d)', lambda m: f'res{int(m[1]) + 1}', name)
    name = re.sub(r'\bbn(\d)', r'conv\1.norm', name)
    name = name.replace('downsample.0', 'shortcut')
    return name.replace('downsample.1', 'shortcut.norm')


def _check_plain(tensors: StateDict, file_format: str) -> None:
    """Refuse all but torchvision's ResNets, with one sentence."""
    depth = resnet_depth(tensors)
    if depth is None:
        raise UserError(
            f'--format {file_format} takes a complete ResNet-18, 34, 50, 101 '
            f'or 152, which these {len(tensors)} tensors (the first is '
            f'{next(iter(tensors))!r}) are not. For any other backbone, use '
            '--format mmlab or onnx.'
        )
    usual = usual_resnet(depth)
    shapes = {
        name: tuple(tensor.shape)
        for name, tensor in _without_classifier(tensors).items()
    }
    for name in (*usual, *shapes):
        theirs, ours = usual.get(name, 'missing'), shapes.get(name, 'missing')
        # Torch sets that counter to 0 where it is missing.
        if theirs != ours and not name.endswith('num_batches_tracked'):
            raise UserError(
                f'--format {file_format} takes the usual ResNet-{depth}, '
                f'whose {name!r} is {theirs}; in this backbone it is {ours}. '
                'For any other backbone, use --format mmlab or onnx.'
            )


def _reduce_array(array: np.ndarray) -> tuple:
    # An array that is loaded from a bytearray is writable, as torch requires.
    buffer = bytearray(array.tobytes())
    return np.ndarray, (array.shape, array.dtype.str, buffer)
