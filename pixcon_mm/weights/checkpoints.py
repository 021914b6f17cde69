"""Checkpoints of a training run: written whole, found, read back."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

from pixcon_mm.errors import UserError
from pixcon_mm.files import whole_file
from pixcon_mm.weights.torch_file import find_damage, load_torch_file

NAME = re.compile(r'(epoch|iter)_\d+\.pth')
# Without one of these a run cannot continue.
PARTS = ('meta', 'state_dict', 'optimizer', 'message_hub')
Checkpoint = dict[str, Any]


def write_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint, whole or not at all, as tensors and plain values.

    Args:
        checkpoint (dict): As MMEngine's Runner gathers it.
        path (Path): Where to; a file of that name is replaced.

    Raises:
        OSError: If it cannot be written. What was there is untouched.
    """
    hub = checkpoint.get('message_hub')
    if hub:
        scalars = {k: _plain_history(v) for k, v in _histories(hub)}
        checkpoint['message_hub'] = dict(hub, log_scalars=scalars)
    # The model's tensors stay in their OrderedDict, which has the versions
    # of its layers.
    plain = dict(_plain({**checkpoint, 'state_dict': None}))
    plain['state_dict'] = checkpoint['state_dict']
    with whole_file(path) as file:
        torch.save(plain, file)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint that a run can resume from, onto the CPU.

    Args:
        path (Path): A file of :func:`write_checkpoint`, or of MMEngine's own
            Runner, whose history of logged values is left out.

    Raises:
        UserError: If it is damaged, holds code, or lacks a part.
    """
    checkpoint = load_torch_file(path)
    lacking = _lacking(checkpoint)
    if lacking:
        raise UserError(
            f'{path} cannot be resumed from: it has no {lacking!r}. Start '
            f'a new run from its weights with --pretrained {path}.'
        )
    hub = checkpoint['message_hub']
    histories = {
        name: HistoryBuffer(
            value['values'].numpy(), value['counts'].numpy(), value['length']
        )
        for name, value in hub['log_scalars'].items()
        if isinstance(value, dict)
    }
    checkpoint['message_hub'] = dict(hub, log_scalars=histories)
    return checkpoint


def list_checkpoints(folder: Path) -> list[Path]:
    """List the files of a work directory that are named as checkpoints."""
    return sorted(p for p in folder.glob('*.pth') if NAME.fullmatch(p.name))


def newest_checkpoint(folder: Path) -> tuple[Path | None, dict[Path, str]]:
    """Find what a run resumes from: the newest whole checkpoint of a folder.

    The newest is the one with the most iterations, whatever the files are
    named and whenever they were written or copied. The file
    ``last_checkpoint``, which OpenMMLab's tools write, is not asked: it may
    point into another folder.

    Args:
        folder (Path): Work directory of the run.

    Returns:
        tuple[Path | None, dict[Path, str]]: The checkpoint, None if there is
        none, and what is wrong with each damaged one that was passed over.
    """
    damaged: dict[Path, str] = {}
    whole: dict[Path, int] = {}
    for path in list_checkpoints(folder):
        try:
            content = load_torch_file(path, mmap=True)
        except UserError as error:
            damaged[path] = str(error)
            continue
        if not _lacking(content):
            whole[path] = content['meta']['iter']
    for path in sorted(whole, key=whole.__getitem__, reverse=True):
        damage = find_damage(path)
        if damage is None:
            return path, damaged
        damaged[path] = f'{path} is damaged ({damage}).'
    return None, damaged


def read_progress(path: Path) -> int | None:
    """Iterations that are done in a checkpoint; None if it is damaged."""
    try:
        return load_torch_file(path, mmap=True)['meta']['iter']
    except (UserError, KeyError, TypeError):
        return None


def _lacking(checkpoint: Any) -> str | None:
    """Name the first part that a resumed run needs and a file lacks."""
    if not isinstance(checkpoint, dict):
        return PARTS[0]
    if 'iter' not in (checkpoint.get('meta') or {}):
        return 'meta.iter'
    return next((part for part in PARTS if part not in checkpoint), None)


def _histories(hub: dict) -> list[tuple[str, HistoryBuffer]]:
    scalars = hub['log_scalars'].items()
    return [(k, v) for k, v in scalars if isinstance(v, HistoryBuffer)]


def _plain_history(history: HistoryBuffer) -> dict[str, Any]:
    # Pickled as it is, it would refer to its methods: code, which
    # load_torch_file refuses.
    values, counts = history.data
    return dict(
        values=torch.from_numpy(np.array(values, dtype=np.float64)),
        counts=torch.from_numpy(np.array(counts, dtype=np.float64)),
        length=history.max_length,
    )


def _plain(value: Any) -> Any:
    """Turn what NumPy and MMEngine add into what torch loads safely."""
    if isinstance(value, dict):
        return {_plain(k): _plain(v) for k, v in value.items()}
    if isinstance(value, list | set):
        return [_plain(v) for v in value]
    if isinstance(value, tuple):
        return tuple(_plain(v) for v in value)
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return torch.from_numpy(value.copy())
    if value is None or isinstance(
        value, bool | int | float | str | bytes | torch.Tensor
    ):
        return value
    return str(value)
