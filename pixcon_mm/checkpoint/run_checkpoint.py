"""Write, find and load the checkpoints of a training run."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer

from pixcon_mm.checkpoint.torch_file import find_damage, load_torch_file
from pixcon_mm.errors import UserError
from pixcon_mm.files import whole_file

NAME = re.compile(r'(epoch|iter)_\d+\.pth')
# Without one of these a run cannot continue.
REQUIRED_KEYS = ('meta', 'state_dict', 'optimizer', 'message_hub')
Checkpoint = dict[str, Any]


def write_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint as tensors and plain values, whole or not at all.

    Args:
        checkpoint (dict): As MMEngine's Runner gathers it.
        path (Path): A file of that name is replaced.

    Raises:
        OSError: If it cannot be written. An older file is untouched.
    """
    # The state dict stays an OrderedDict, because that has the versions of
    # the layers as an attribute.
    plain = _plain({**checkpoint, 'state_dict': None})
    plain['state_dict'] = checkpoint['state_dict']
    with whole_file(path) as file:
        torch.save(plain, file)


def load_checkpoint(path: Path) -> Checkpoint:
    """Load a checkpoint that a run can resume from, onto the CPU.

    Args:
        path (Path): A file of :func:`write_checkpoint`.

    Raises:
        UserError: If it is damaged, holds code, or lacks a part.
    """
    if not path.is_file():
        raise UserError(
            f'There is no checkpoint {str(path)!r}: name a local file, on '
            'storage that all machines share, or leave it out to continue '
            'from the newest one in the work dir.'
        )
    checkpoint = load_torch_file(path)
    _check_parts(checkpoint, path, REQUIRED_KEYS)
    histories = checkpoint['message_hub']['log_scalars']
    for name, value in histories.items():
        histories[name] = HistoryBuffer(
            value['values'].numpy(), value['counts'].numpy(), value['length']
        )
    return checkpoint


def list_checkpoints(folder: Path) -> list[Path]:
    """List the files of a work directory that are named like checkpoints."""
    return sorted(p for p in folder.glob('*.pth') if NAME.fullmatch(p.name))


def newest_checkpoint(folder: Path) -> tuple[Path | None, dict[Path, str]]:
    """Find what a run resumes from: the newest whole checkpoint of a folder.

    The newest is the one that is furthest in the run, whatever the files are
    named and whenever they were written or copied. The file
    ``last_checkpoint``, which OpenMMLab's tools write, is ignored: it may
    point into another folder.

    Args:
        folder (Path): Work directory of the run.

    Returns:
        tuple[Path | None, dict[Path, str]]: The checkpoint, or None; and the
        reasons for which others were skipped, by path. They are damaged, or
        lack what a run needs.
    """
    unfit: dict[Path, str] = {}
    fit: dict[Path, tuple[int, float]] = {}
    for path in list_checkpoints(folder):
        try:
            fit[path] = read_progress(path)
        except UserError as error:
            unfit[path] = str(error)
    for path in sorted(fit, key=fit.__getitem__, reverse=True):
        damage = find_damage(path)
        if damage is None:
            return path, unfit
        unfit[path] = f'{path} is damaged ({damage}).'
    return None, unfit


def read_progress(
    path: Path, needed: Iterable[str] = REQUIRED_KEYS
) -> tuple[int, float]:
    """Read how far a checkpoint is in its run, without reading its tensors.

    Args:
        path (Path): The checkpoint.
        needed (Iterable[str]): Parts that it must have.

    Returns:
        tuple[int, float]: Finished epochs, and the finished share of the next
        one, whose length may change during a run; in a run that does not
        count epochs, its iterations. Comparable within a run.

    Raises:
        UserError: If it is damaged or lacks a part.
    """
    content = load_torch_file(path, mmap=True)
    _check_parts(content, path, needed)
    meta = content['meta']
    epoch, iteration = meta['epoch'], meta['iter']
    length = meta['scale']['epoch_length']
    return epoch, iteration / length - epoch if length else iteration


def _check_parts(checkpoint: Any, path: Path, needed: Iterable[str]) -> None:
    """Stop if a file lacks what a resumed run needs."""
    parts = checkpoint if isinstance(checkpoint, dict) else {}
    missing = next((part for part in needed if part not in parts), None)
    meta = parts.get('meta')
    counts = meta if isinstance(meta, dict) else {}
    if missing:
        problem = f'it has no {missing!r}'
    elif any(type(counts.get(name)) is not int for name in ('epoch', 'iter')):
        problem = "it does not say how many iterations ('iter') are done"
    elif 'scale' not in counts:
        problem = (
            'it does not say how many iterations an epoch has, as in '
            "checkpoints of MMEngine's own Runner"
        )
    else:
        return
    raise UserError(
        f'{path} cannot be resumed from: {problem}. Start a new run from its '
        f'weights with --pretrained {path}.'
    )


def _plain(value: Any) -> Any:
    """Replace objects of NumPy and MMEngine by ones that torch can load."""
    if isinstance(value, HistoryBuffer):
        # Its pickle would refer to its methods, and load_torch_file refuses
        # references to code.
        values, counts = (
            torch.from_numpy(np.array(data, dtype=np.float64))
            for data in value.data
        )
        return dict(values=values, counts=counts, length=value.max_length)
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
