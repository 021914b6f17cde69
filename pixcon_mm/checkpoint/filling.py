"""Put given weights into a model: every tensor of it, or none and an error."""

import torch
from torch import Tensor

from pixcon_mm.checkpoint.export import resnet_depth
from pixcon_mm.checkpoint.reading import StateDict
from pixcon_mm.errors import UserError


@torch.no_grad()
def fill(model: StateDict, given: StateDict, part: str, origin: str) -> str:
    """Copy weights into the tensors of a model, in place.

    The count of batches of a BN layer, which nothing reads, may be missing.
    Whole parts that the model does not have, as a classifier or a last stage,
    are left out.

    Args:
        model (dict[str, Tensor]): The model's tensors by name, as
            ``state_dict()`` gives them.
        given (dict[str, Tensor]): New values by name.
        part (str): What is filled, for messages.
        origin (str): Where the values are from, for messages.

    Returns:
        str: What was filled, and from where.

    Raises:
        UserError: If a tensor of the model would not be filled, a given one
            belongs into a part that has no place for it, shapes differ, or a
            value is not finite. Nothing is copied then.

    Example:
        >>> model = {'fc.weight': torch.zeros(2)}
        >>> fill(model, {'fc.weight': torch.ones(2)}, 'backbone', 'a file')
        'backbone: 1/1 tensors from a file'
        >>> model
        {'fc.weight': tensor([1., 1.])}
    """
    counts = {n for n in model if n.endswith('.num_batches_tracked')}
    missing = [n for n in model if n not in given and n not in counts]
    stages = {name.split('.')[0] for name in model}
    extra = [
        name
        for name in given
        if name not in model and name.split('.')[0] in stages
    ]
    misshapen = [
        name
        for name, tensor in model.items()
        if name in given and given[name].shape != tensor.shape
    ]
    infinite = [
        name for name in model if name in given and not _finite(given[name])
    ]
    for names, problem in (
        (missing, 'are not in'),
        (misshapen, 'have another shape in'),
        (infinite, 'are not finite in'),
    ):
        if names:
            raise UserError(
                f'{part}: {len(names)} of {len(model)} tensors {problem} '
                f'{origin}, the first is {names[0]}: {_cause(model, given)}.'
            )
    if extra:
        raise UserError(
            f'{part}: the model has no place for {len(extra)} tensors of '
            f'{origin}, the first is {extra[0]}: {_cause(model, given)}.'
        )
    for name, tensor in model.items():
        tensor.copy_(given.get(name, torch.tensor(0)))
    return f'{part}: {len(model)}/{len(model)} tensors from {origin}'


def compare(model: StateDict, given: StateDict) -> str | None:
    """Find where a file's tensors are not those of a model, all of them.

    Args:
        model (dict[str, Tensor]): The model's tensors by name.
        given (dict[str, Tensor]): The file's.

    Returns:
        str | None: The first difference of each kind; None if names and
        shapes are the same.

    Example:
        >>> compare({'a': torch.zeros(2)}, {'b': torch.zeros(2)})
        '1 of 1 tensors are not in the file (a); the model has no place for \
1 tensors of the file (b)'
    """
    missing = [name for name in model if name not in given]
    extra = [name for name in given if name not in model]
    shapes = [
        f'{name}: {tuple(given[name].shape)} in the file, '
        f'{tuple(tensor.shape)} in the model'
        for name, tensor in model.items()
        if name in given and given[name].shape != tensor.shape
    ]
    problems = [
        f'{len(names)} of {len(model)} tensors {what} ({names[0]})'
        for names, what in (
            (missing, 'are not in the file'),
            (shapes, 'have another shape'),
        )
        if names
    ]
    if extra:
        problems.append(
            f'the model has no place for {len(extra)} tensors of the file '
            f'({extra[0]})'
        )
    return '; '.join(problems) or None


def _finite(tensor: Tensor) -> bool:
    return not tensor.is_floating_point() or bool(tensor.isfinite().all())


def _cause(model: StateDict, given: StateDict) -> str:
    """The usual cause of weights that do not fit."""
    deep_stem = 'stem.0.weight'
    if deep_stem in given and deep_stem not in model:
        return (
            'they are of a ResNet with a deep stem (V1c), and the model has '
            'a plain one'
        )
    if deep_stem in model and deep_stem not in given:
        return (
            "the model has a deep stem (V1c): set its type='ResNet', which "
            'the weights are for'
        )
    depths = resnet_depth(given), resnet_depth(model)
    if all(depths) and depths[0] != depths[1]:
        return 'they are of a ResNet-{}, and the model is a ResNet-{}'.format(
            *depths
        )
    probe = max(model, key=len)
    for name in given:
        if name.endswith(f'.{probe}') or name.endswith(f'_{probe}'):
            prefix = name.removesuffix(probe)
            return (
                f'their names begin with {prefix!r}; take the backbone out '
                "with 'python tools/export_backbone.py FILE --format mmlab "
                f"--prefix {prefix}'"
            )
    if model.keys() & given.keys():
        return 'only a part of the weights is for this model'
    return 'they are not of this model'
