"""Distance of two runs that differ in the order of their sums."""

from pathlib import Path

import torch
from torch import Tensor

from tests.faults import checkpoints


def errors(ours: Path, theirs: Path, before: Path) -> dict[str, float]:
    """Errors of weights and momentum, relative to what they changed by.

    Args:
        ours (Path): Checkpoint that is tested.
        theirs (Path): Checkpoint that it should equal.
        before (Path): An earlier checkpoint of the same run as ``theirs``.

    Returns:
        dict[str, float]: Largest error of each tensor over its largest
        change, beyond the last bits of its values; of the queues, which may
        be in another order, the largest distance of a row to the nearest.
    """
    a, b, start = (
        dict(checkpoints.tensors(checkpoints.load(path), ''))
        for path in (ours, theirs, before)
    )
    assert a.keys() == b.keys(), sorted(a.keys() ^ b)
    found = {}
    for name, value in b.items():
        if name.startswith(('.state_dict', '.optimizer')):
            error = checkpoints.distance(a[name], value)
            if name.endswith('queue.features'):
                error = rows_apart(a[name], value)
            moved = checkpoints.distance(value, start[name])
            # The key encoder hardly moves: its values end in these bits.
            error = max(0.0, error - rounding(value))
            found[name] = error / moved if moved else error
    return found


def rows_apart(a: Tensor, b: Tensor) -> float:
    """Largest distance of a row of either to the nearest of the other."""
    apart = torch.cdist(
        a.double(), b.double(), compute_mode='donot_use_mm_for_euclid_dist'
    )
    return float(max(apart.min(0).values.max(), apart.min(1).values.max()))


def rounding(value: Tensor) -> float:
    """Last bits of the largest value of a tensor."""
    if not value.is_floating_point():
        return 0.0
    return 4 * torch.finfo(value.dtype).eps * float(value.abs().max())
