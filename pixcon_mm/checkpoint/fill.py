"""Fill a model with weights: all of its tensors, or none."""

import torch
from torch import Tensor

from pixcon_mm.checkpoint.export import resnet_depth
from pixcon_mm.checkpoint.torch_file import StateDict
from pixcon_mm.errors import UserError


@torch.no_grad()
def load_strict(
    model: StateDict, tensors: StateDict, part: str, origin: str
) -> str:
    """Copy weights into every tensor of a model, or into none.

    The count of batches of a BN layer, which nothing reads, may be missing.
    Whole parts that the model does not have, as a classifier or a last stage,
    are left out.

    Args:
        model (dict[str, Tensor]): The model's ``state_dict()``, filled in
            place.
        tensors (dict[str, Tensor]): New values by name.
        part (str): What is filled, for messages.
        origin (str): Where the values are from, for messages.

    Returns:
        str: What was filled, and from where.

    Raises:
        UserError: If a tensor of the model would not be filled, a new one
            belongs into a part that has no place for it, shapes differ,
            integers are to be weights, or a value is not finite.

    Example:
        >>> model = {'fc.weight': torch.zeros(2)}
        >>> new = {'fc.weight': torch.ones(2)}
        >>> load_strict(model, new, 'backbone', 'a file')
        'backbone: 1/1 tensors from a file'
        >>> model
        {'fc.weight': tensor([1., 1.])}
    """
    # A count of batches may be missing, and parts may be left out.
    needed = {
        name: tensor
        for name, tensor in model.items()
        if name in tensors or not name.endswith('.num_batches_tracked')
    }
    parts = {name.split('.')[0] for name in model}
    own = {n: t for n, t in tensors.items() if n.split('.')[0] in parts}
    problem = find_difference(needed, own, origin)
    if problem:
        raise UserError(f'{part}: {problem}: {_likely_cause(model, tensors)}.')
    count = f'of {len(model)} tensors'
    odd = [n for n in model if n in tensors and _is_odd(tensors[n], model[n])]
    if odd:
        kind = f'{tensors[odd[0]].dtype}, {tensors[odd[0]].layout}'
        raise UserError(
            f'{part}: {len(odd)} {count} are no dense arrays of floats in '
            f'{origin}, the first is {odd[0]} ({kind}): weights '
            'that were quantised or made sparse cannot be trained on, so '
            'take the original ones.'
        )
    infinite = [
        name
        for name, tensor in model.items()
        if name in tensors
        and not tensors[name].to(tensor.dtype).isfinite().all()
    ]
    if infinite:
        values = tensors[infinite[0]].to(model[infinite[0]].dtype)
        bad = int((~values.isfinite()).sum())
        raise UserError(
            f'{part}: {len(infinite)} {count} hold NaN or infinite values in '
            f'{origin}, the first is {infinite[0]} ({bad} of its '
            f'{values.numel()} values): the training that wrote them has '
            'diverged, so take an earlier checkpoint of it.'
        )
    for name, tensor in model.items():
        tensor.copy_(tensors.get(name, torch.tensor(0)))
    return f'{part}: {len(model)}/{len(model)} tensors from {origin}'


def find_difference(
    model: StateDict, tensors: StateDict, origin: str
) -> str | None:
    """Compare names and shapes of tensors with those of a model.

    Returns:
        str | None: A difference, with the first tensor that has it.

    Example:
        >>> find_difference({'a': torch.zeros(2)}, {}, 'a file')
        '1 of 1 tensors are not in a file, the first is a'
    """
    count = f'of {len(model)} tensors'
    missing = [name for name in model if name not in tensors]
    misshapen = [
        f'{name}, {tuple(tensors[name].shape)} there and '
        f'{tuple(tensor.shape)} in the model'
        for name, tensor in model.items()
        if name in tensors and tensors[name].shape != tensor.shape
    ]
    extra = [name for name in tensors if name not in model]
    for names, problem in (
        (missing, f'{len(missing)} {count} are not in'),
        (misshapen, f'{len(misshapen)} {count} have another shape in'),
        (extra, f'the model has no place for {len(extra)} tensors of'),
    ):
        if names:
            return f'{problem} {origin}, the first is {names[0]}'
    return None


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
        return 'only some of the weights belong to this model'
    return 'they belong to another model'


def _is_odd(tensor: Tensor, own: Tensor) -> bool:
    """Check for what a copy would change without a word, or cannot read."""
    is_dense = tensor.layout == torch.strided and not tensor.is_meta
    is_float = tensor.is_floating_point() or not own.is_floating_point()
    return not (is_dense and is_float)
