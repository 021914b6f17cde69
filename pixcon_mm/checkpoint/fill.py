"""Fill a model with weights: all of its tensors, or none."""

import re

import torch
from torch import Tensor, nn

from pixcon_mm.checkpoint.export import resnet_depth
from pixcon_mm.checkpoint.torch_file import StateDict
from pixcon_mm.errors import UserError
from pixcon_mm.wording import counted, share


@torch.no_grad()
def load_strict(
    target: StateDict,
    tensors: StateDict,
    part: str,
    origin: str,
    classifier: tuple[str, ...] = (),
) -> str:
    """Copy weights into every tensor of a model, or into none.

    Two exceptions: ``num_batches_tracked`` of a BN layer, which nothing
    reads, may be missing from the weights and is then set to 0. Weights of
    top-level layers that the model does not have, such as a classifier or a
    last stage, are ignored.

    Args:
        target (dict[str, Tensor]): The ``state_dict()`` of a model or of a
            part of it. Its tensors share memory with the model's, so filling
            them fills the model.
        tensors (dict[str, Tensor]): New values by name.
        part (str): Name of what is filled, for messages.
        origin (str): Where the values are from, for messages.
        classifier (tuple[str, ...]): Classifiers inside a top-level layer
            that the model has, such as ``head.fc``; their weights are ignored
            too.

    Returns:
        str: A line for the log: what was filled, and from where.

    Raises:
        UserError: If a tensor of the model would not be filled, a layer of
            the model lacks a tensor that the weights have for it, shapes
            differ, weights are integers, quantised or sparse, or a value is
            not finite.

    Example:
        >>> target = {'fc.weight': torch.zeros(2)}
        >>> new = {'fc.weight': torch.ones(2)}
        >>> load_strict(target, new, 'backbone', 'a file')
        'backbone: 1/1 tensors from a file'
        >>> target
        {'fc.weight': tensor([1., 1.])}
    """
    # Counts of batches may be missing, and layers may be left out.
    counts = {
        name: tensor
        for name, tensor in target.items()
        if name.endswith('.num_batches_tracked')
    }
    layers = {name.split('.')[0] for name in target}
    others = tuple(f'{name}.' for name in classifier)
    own = {
        name: tensor
        for name, tensor in tensors.items()
        if name.split('.')[0] in layers and not name.startswith(others)
    }
    problem = find_difference(target, {**counts, **own}, origin)
    if problem:
        raise UserError(
            f'{part}: {problem}: {_likely_cause(target, tensors)}.'
        )
    check_values(target, tensors, part, origin)
    for name, tensor in target.items():
        # Only num_batches_tracked can be missing here.
        tensor.copy_(tensors.get(name, torch.tensor(0)))
    return f'{part}: {len(target)}/{len(target)} tensors from {origin}'


def load_whole_model(
    model: nn.Module, tensors: StateDict, checkpoint: str
) -> None:
    """Load all tensors of a fine-tuned model from its checkpoint.

    Raises:
        UserError: If a tensor is missing or does not fit.
    """
    if 'image_queue.features' in tensors and not hasattr(model, 'image_queue'):
        raise UserError(
            f'{checkpoint} is a checkpoint of pre-training and has only a '
            'backbone for this model: fine-tune it first, with tools/train.py '
            f'CONFIG --pretrained {checkpoint}.'
        )
    load_strict(model.state_dict(), tensors, 'model', checkpoint)


def check_values(
    target: StateDict,
    tensors: StateDict,
    part: str,
    origin: str,
) -> None:
    """Stop if a model cannot be trained from the values that it would get.

    Values need not be finite where the model's own are not either, as in
    masks of minus infinity.

    Args:
        target (dict[str, Tensor]): The model's ``state_dict()``.
        tensors (dict[str, Tensor]): New values by name; others are ignored.
        part (str): Name of what is filled, for messages.
        origin (str): Where the values are from, for messages.

    Raises:
        UserError: If weights are integers, quantised or sparse, or a value is
            not finite in the model's dtype. Names the first tensor.
    """
    unusable = [
        name
        for name, tensor in target.items()
        if name in tensors and not _is_usable(tensors[name], tensor)
    ]
    if unusable:
        first = tensors[unusable[0]]
        what = f'has no dense floating-point values in {origin}'
        raise UserError(
            f'{part}: {share(len(unusable), len(target), "tensor", what)}, '
            f'the first is {unusable[0]} ({first.dtype}, {first.layout}): '
            'weights that were quantised or made sparse cannot be trained '
            'on, so take the original ones.'
        )
    bad = [
        name
        for name, tensor in target.items()
        if name in tensors
        and not tensors[name].to(tensor.dtype).isfinite().all()
        and tensor.isfinite().all()
    ]
    if bad:
        values = tensors[bad[0]].to(target[bad[0]].dtype)
        count = int((~values.isfinite()).sum())
        what = f'holds NaN or infinite values in {origin}'
        raise UserError(
            f'{part}: {share(len(bad), len(target), "tensor", what)}, the '
            f'first is {bad[0]} ({count} of its {values.numel()} values): '
            'the training that wrote them has diverged, so take an earlier '
            'checkpoint of it.'
        )


def find_difference(
    model: StateDict, tensors: StateDict, origin: str
) -> str | None:
    """Describe how tensors differ from those of a model in name or shape.

    Args:
        model (dict[str, Tensor]): The model's ``state_dict()``.
        tensors (dict[str, Tensor]): Other tensors, by name.
        origin (str): Where they are from.

    Returns:
        str | None: A difference, with the first tensor that has it.

    Example:
        >>> find_difference({'a': torch.zeros(2)}, {}, 'a file')
        '1 of 1 tensor is not in a file, the first is a'
    """
    missing = [name for name in model if name not in tensors]
    misshapen = [
        f'{name} ({_size(tensors[name])}, and {_size(tensor)} in the model)'
        for name, tensor in model.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    extra = [name for name in tensors if name not in model]
    for names, what in (
        (missing, f'is not in {origin}'),
        (misshapen, f'has another shape in {origin}'),
    ):
        if names:
            problem = share(len(names), len(model), 'tensor', what)
            return f'{problem}, the first is {names[0]}'
    if extra:
        problem = f'the model has no place for {counted(len(extra), "tensor")}'
        return f'{problem} of {origin}, the first is {extra[0]}'
    return None


def _size(tensor: Tensor) -> str:
    return 'x'.join(map(str, tensor.shape)) or 'a single number'


def _likely_cause(model: StateDict, tensors: StateDict) -> str:
    """Name the usual cause of weights that do not fit."""
    is_deep = ['stem.0.weight' in names for names in (tensors, model)]
    if is_deep == [True, False]:
        return (
            'they belong to a ResNet with a deep stem (V1c), and the model '
            'has a plain one'
        )
    if is_deep == [False, True]:
        return (
            'the model has a deep stem (V1c), and they belong to a plain '
            "ResNet: set the backbone's type='ResNet'"
        )
    theirs, ours = resnet_depth(tensors), resnet_depth(model)
    if theirs and ours and theirs != ours:
        return (
            f'they belong to a ResNet-{theirs}, and the model is a '
            f'ResNet-{ours}'
        )
    if model.keys() & tensors.keys():
        layers, known = (
            {name.split('.')[0] for name in names}
            for names in (model, tensors)
        )
        new = sorted(layers - known)
        if new and all(re.fullmatch(r'norm\d', layer) for layer in new):
            return (
                'they belong to a backbone with fewer feature maps, so name '
                'the norms of the others in the config, as in default_hooks='
                f'dict(pretrained=dict(new_layers={new})) (docs/backbones.md)'
            )
        return (
            'only some of the weights belong to this model: name the config '
            'or architecture that they were trained with'
        )
    return 'they belong to another model'


def _is_usable(tensor: Tensor, target: Tensor) -> bool:
    """Check for a dense tensor of floats, or of integers for integers."""
    is_dense = tensor.layout == torch.strided and not tensor.is_meta
    is_float = tensor.is_floating_point() or not target.is_floating_point()
    return is_dense and is_float
