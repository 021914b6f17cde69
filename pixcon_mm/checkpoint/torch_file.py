"""Load files of ``torch.save`` that are undamaged, without running code."""

import errno
import pickle
import re
import warnings
import zipfile
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pixcon_mm.checkpoint.stand_ins import make_stand_ins
from pixcon_mm.errors import UserError

StateDict = dict[str, Tensor]

BLOCK = 1 << 20  # bytes read at a time
# A record with this attribute is read by torch as uninitialised memory.
FOLDER = 0x10


def load_torch_file(path: Path, mmap: bool = False) -> Any:
    """Load a file of ``torch.save`` onto the CPU.

    Nothing but tensors and plain values is unpickled: a file with code in it
    is refused. Arrays of NumPy come as :class:`SavedArray`. The checksums
    that ``torch.save`` writes are compared with what the file holds, which
    torch itself does not do.

    Args:
        path (Path): The file.
        mmap (bool): Leave tensors on disk until they are used, and do not
            compare their checksums: a quick look at the values beside them.

    Raises:
        UserError: If the file is damaged, not a file of torch, or holds code.
    """
    damage = find_damage(path, skip_tensors=mmap)
    if damage:
        raise broken(path, damage)
    # A list, because torch iterates over it again when the context ends.
    stand_ins: list[Any] = [*make_stand_ins().values()]
    try:
        with (
            torch.serialization.safe_globals(stand_ins),
            warnings.catch_warnings(),
            # By its path, newer versions of torch would read a file as its
            # name says. Only a path can stay on disk.
            nullcontext(path) if mmap else path.open('rb') as file,
        ):
            warnings.simplefilter('ignore')  # what matters raises an error
            return torch.load(
                file, map_location='cpu', weights_only=True, mmap=mmap or None
            )
    except (MemoryError, OSError):
        raise  # the machine's fault, not the file's
    except Exception as error:
        raise cannot_unpickle(path, error) from error


def find_damage(path: Path, skip_tensors: bool = False) -> str | None:
    """Compare a file with the checksums in it.

    ``torch.save`` writes a ZIP archive with the CRC-32 of each record, one
    for each tensor. Files written before PyTorch 1.6 are not archives and
    have no checksums.

    Args:
        path (Path): The file.
        skip_tensors (bool): Check all records but the tensors.

    Returns:
        str | None: The damage; None if there is none, or no checksum.
    """
    with open(path, 'rb') as file:
        start = file.read(2)
    if start != b'PK':
        return None if start else 'it is empty'
    try:
        with zipfile.ZipFile(path) as archive:
            for record in archive.infolist():
                if record.external_attr & FOLDER:
                    return f'{record.filename} is marked as a folder'
                if skip_tensors and '/data/' in record.filename:
                    continue
                with archive.open(record) as content:
                    while content.read(BLOCK):
                        pass  # reading to the end compares the checksum
    except OSError as error:
        # A damaged list of records has led to a position outside of the file.
        if error.errno != errno.EINVAL:
            raise
        return 'its list of records is damaged'
    except MemoryError:
        raise
    except Exception as error:
        # Damaged bytes make zipfile raise almost anything.
        return _reason(error)
    return None


def broken(path: Path, reason: str) -> UserError:
    """Return the error for a damaged file, or one that has no weights."""
    return UserError(
        f'{path} is not a file of weights, or it is damaged or truncated: '
        f'copy or download it again ({reason}).'
    )


def cannot_unpickle(path: Path, error: Exception) -> UserError:
    """Return the error for a file that cannot be unpickled.

    Args:
        path (Path): The file.
        error (Exception): Raised by the unpickler. If it names a refused
            class or function, the file has code; damaged bytes can raise
            almost anything.
    """
    text = str(error)
    if 'TorchScript' in text:
        return UserError(
            f'{path} is a TorchScript program, which would have to run to '
            "give its weights: save the model's state_dict()."
        )
    if isinstance(error, pickle.UnpicklingError) and (
        'GLOBAL' in text or 'persistent' in text
    ):
        match = re.search(r'(?:GLOBAL|global) `?([\w.]+)', text)
        name = f' ({match[1]})' if match else ''
        return UserError(
            f'{path} holds Python objects besides tensors{name}, which could '
            'run code, so it was not loaded: ask its author for a file of '
            'tensors only.'
        )
    return broken(path, _reason(error))


def _reason(error: Exception) -> str:
    # After the reason, torch gives advice that does not fit here.
    text = str(error).rpartition('WeightsUnpickler error: ')[2]
    reason = re.split(r'\. |\n', text)[0]
    return f'{type(error).__name__}: {reason}'.rstrip(': ')
