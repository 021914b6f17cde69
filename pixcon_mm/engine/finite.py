"""Tensors of a training that must be finite."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn


def find_non_finite(tensors: dict[str, Tensor]) -> list[str]:
    """Find the tensors with a value that is not finite.

    Costs one pass over them and one host sync, whatever their number.

    Args:
        tensors (dict[str, Tensor]): By name, on one device or several.

    Returns:
        list[str]: Names; integers are always finite.

    Example:
        >>> find_non_finite({'a': torch.ones(2), 'b': torch.tensor([0, 1e39])})
        ['b']
    """
    floats = {
        name: tensor.detach()
        for name, tensor in tensors.items()
        if tensor.is_floating_point() and tensor.numel()
    }
    suspects: list[str] = []
    for names in _by_device(floats):
        norms = torch._foreach_norm([floats[name] for name in names])
        finite = torch.stack([n.float() for n in norms]).isfinite().tolist()
        suspects += [n for n, ok in zip(names, finite, strict=True) if not ok]
    # The square of a large value may overflow.
    return [n for n in suspects if not bool(floats[n].isfinite().all())]


def unbounded_buffers(model: nn.Module) -> set[str]:
    """Name the buffers that are not finite by design, such as masks."""
    return {*find_non_finite(dict(model.named_buffers()))}


def _by_device(tensors: dict[str, Tensor]) -> Iterable[list[str]]:
    groups: dict[tuple, list[str]] = {}
    for name, tensor in tensors.items():
        groups.setdefault((tensor.device, tensor.dtype), []).append(name)
    return groups.values()
