"""Look at the checkpoints of a work directory from outside."""

import re
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

NAME = re.compile(r'(epoch|iter)_(\d+)\.pth')
PARTS = ('state_dict', 'ema_state_dict', 'optimizer')


def by_progress(work_dir: Path, length: int) -> list[tuple[int, Path]]:
    """List checkpoints and the iterations they stand for, the newest last."""
    found = []
    for path in work_dir.glob('*.pth'):
        if match := NAME.fullmatch(path.name):
            unit = length if match[1] == 'epoch' else 1
            found.append((int(match[2]) * unit, path))
    return sorted(found)


def progress(work_dir: Path, length: int) -> int:
    found = by_progress(work_dir, length)
    return found[-1][0] if found else 0


def unfinished(work_dir: Path) -> list[str]:
    """List the files that were being written."""
    return [path.name for path in work_dir.glob('.*.part')]


def load(path: Path) -> dict:
    return torch.load(path, map_location='cpu', weights_only=False)


def damaged(work_dir: Path) -> list[str]:
    """List the checkpoints that cannot be loaded or are not finite."""
    names = []
    for path in sorted(work_dir.glob('*.pth')):
        try:
            content = load(path)
        except Exception as error:
            names.append(f'{path.name}: {error}')
            continue
        if not is_finite(content):
            names.append(f'{path.name}: not finite')
    return names


def is_finite(content: dict) -> bool:
    return all(
        bool(value.isfinite().all())
        for key in PARTS
        for _, value in tensors(content.get(key), key)
    )


def tensors(value, name: str) -> Iterator[tuple[str, Tensor]]:
    """Yield all tensors below a value, each with its path."""
    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from tensors(part, f'{name}.{key}')
    elif isinstance(value, list | tuple):
        for index, part in enumerate(value):
            yield from tensors(part, f'{name}.{index}')


def differences(ours: Path, theirs: Path) -> list[str]:
    """List the differences between two checkpoints, bit for bit."""
    a, b = load(ours), load(theirs)
    found = []
    for key in PARTS:
        mine, other = (dict(tensors(c.get(key), key)) for c in (a, b))
        found += sorted(f'{name} in one only' for name in mine.keys() ^ other)
        found += [
            f'{name} by {distance(mine[name], value):.3g}'
            for name, value in other.items()
            if name in mine and not same(mine[name], value)
        ]
    for key in ('epoch', 'iter'):
        if a['meta'][key] != b['meta'][key]:
            found.append(f'{key}: {a["meta"][key]}, not {b["meta"][key]}')
    if a['optimizer']['param_groups'] != b['optimizer']['param_groups']:
        found.append('optimizer.param_groups')
    if a.get('param_schedulers') != b.get('param_schedulers'):
        found.append('param_schedulers')
    return found


def same(a: Tensor, b: Tensor) -> bool:
    return a.dtype == b.dtype and torch.equal(a, b)


def distance(a: Tensor, b: Tensor) -> float:
    """Return the largest difference; infinite for other shapes."""
    if a.shape != b.shape:
        return float('inf')
    return float((a.double() - b.double()).abs().max())


def errors(ours: Path, theirs: Path, before: Path) -> dict[str, float]:
    """Compare weights and momentum of runs that sum in another order.

    Returns, for each tensor, its largest error over its largest change since
    ``before``, a checkpoint of the same run as ``theirs``. Rows of a queue may
    be in another order: there it is the distance of a row to the nearest.
    """
    a, b, start = (
        dict(tensors(load(path), '')) for path in (ours, theirs, before)
    )
    assert a.keys() == b.keys(), sorted(a.keys() ^ b)
    found = {}
    for name, value in b.items():
        if name.startswith(('.state_dict', '.optimizer')):
            error = distance(a[name], value)
            if name.endswith('queue.features'):
                error = rows_apart(a[name], value)
            moved = distance(value, start[name])
            if value.is_floating_point():
                # The key encoder hardly moves: its values end in these bits.
                bits = torch.finfo(value.dtype).eps * float(value.abs().max())
                error = max(0.0, error - 4 * bits)
            found[name] = error / moved if moved else error
    return found


def rows_apart(a: Tensor, b: Tensor) -> float:
    """Return the largest distance of a row to the nearest of the other."""
    apart = torch.cdist(
        a.double(), b.double(), compute_mode='donot_use_mm_for_euclid_dist'
    )
    return float(max(apart.min(0).values.max(), apart.min(1).values.max()))
