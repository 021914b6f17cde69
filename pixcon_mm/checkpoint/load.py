"""Load weights from files safely, and into models completely."""

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pixcon_mm.checkpoint.export import resnet_depth
from pixcon_mm.checkpoint.stand_ins import SavedArray, load_pickle
from pixcon_mm.checkpoint.torch_file import (
    StateDict,
    broken,
    cannot_unpickle,
    load_torch_file,
)
from pixcon_mm.errors import UserError

# Where training scripts put the network's weights beside other things.
MAIN_PLACES = ('', 'state_dict', 'model')
# Deeper than any script nests its weights; a pickle may contain itself.
MAX_DEPTH = 8
# What a failed download leaves in place of a file, by its first bytes.
NOT_WEIGHTS = {
    b'<': 'a web page, as after a failed download',
    b'version https://git-lfs': "Git LFS's pointer to it; run 'git lfs pull'",
    b'{': 'JSON',
}
# What torch.save writes first without its ZIP archive: its magic number.
OLD_TORCH = b'\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.'


class Weights(NamedTuple):
    """Content of a file of weights, as far as it is tensors with names."""

    tensors: StateDict
    keys: list[str]  # of the file's top level
    places: dict[str, int]  # tensors by path of keys, '' for the top level

    def describe(self) -> str:
        """Say where in the file the tensors are.

        Example:
            >>> Weights({}, ['epoch', 'model'], {'model': 320}).describe()
            "The file has the top-level keys 'epoch' and 'model'; 320 named \
tensors are in 'model'."
        """
        places = [
            f'{count} named tensors are '
            f'{f"in {place!r}" if place else "at the top level"}'
            for place, count in self.places.items()
        ]
        if self.places.keys() == {''}:
            return f'The file is a plain state dict; {places[0]}.'
        return (
            f'The file has the top-level keys {enumerate_names(self.keys)}; '
            f'{", ".join(places)}.'
        )


def enumerate_names(names: list[str], most: int = 10) -> str:
    """Write names as a part of a sentence, the first ones if they are many.

    Example:
        >>> enumerate_names(['a', 'b', 'c'])
        "'a', 'b' and 'c'"
        >>> enumerate_names(['a', 'b', 'c'], most=1)
        "'a' and 2 more"
    """
    shown = [repr(name) for name in names[:most]]
    if len(names) > most:
        shown.append(f'{len(names) - most} more')
    return ' and '.join(filter(None, [', '.join(shown[:-1]), *shown[-1:]]))


def load_tensors(path: str | Path) -> StateDict:
    """Load the tensors of a file onto the CPU; see :func:`load_weights`."""
    return load_weights(path).tensors


def load_weights(path: str | Path) -> Weights:
    """Load a checkpoint or a file of weights onto the CPU.

    The file's first bytes decide how it is read, whatever its name: as a file
    of ``torch.save``, of safetensors, or a pickle of NumPy's arrays, such as
    Detectron2's. Tensors are found however deep the file nests them. Those at
    the top level, in ``state_dict`` or in ``model`` keep their names, and so
    do those of any other place that is the only one; elsewhere, names begin
    with the path of keys, as in ``teacher.backbone.conv1.weight``.

    Raises:
        UserError: If there is no such file, or it is damaged, holds code, or
            has no tensors.
    """
    path = Path(path)
    content = _load_content(path)
    try:
        found = _state_dicts(content)
    except ValueError as error:  # of an array that is not as it says
        raise broken(path, str(error)) from error
    # An optimiser's or a log's tensors have no names of layers.
    named = {
        place: tensors
        for place, tensors in found.items()
        if any('.' in name for name in tensors)
    }
    found = named or {p: found[p] for p in MAIN_PLACES if p in found}
    keys = [str(key) for key in content] if isinstance(content, dict) else []
    if not found:
        raise UserError(
            f'{path} has no named tensors, neither at the top level nor '
            'deeper'
            + (f'; its keys are {enumerate_names(keys)}.' if keys else '.')
        )
    main = next((p for p in MAIN_PLACES if p in found), None)
    if main is None and len(found) == 1:
        (main,) = found
    tensors: StateDict = {}
    for place, state_dict in found.items():
        start = '' if place in ('', main) else f'{place}.'
        tensors |= {f'{start}{name}': t for name, t in state_dict.items()}
    if main is not None:
        tensors |= found[main]
    places = {place: len(state_dict) for place, state_dict in found.items()}
    return Weights(tensors, keys, places)


def _load_content(path: Path) -> Any:
    """Read a file by the way that its first bytes ask for."""
    if path.is_dir():
        raise UserError(f'{path} is a folder: name a file of weights in it.')
    if not path.is_file():
        raise UserError(f'There is no file of weights {str(path)!r}.')
    with path.open('rb') as file:
        head = file.read(64)
    # The length of a header in JSON, then the header.
    if head[8:9] == b'{':
        return _load_safetensors(path)
    for start, what in NOT_WEIGHTS.items():
        if head.lstrip().startswith(start):
            raise UserError(f'{path} does not hold weights but {what}.')
    if head[:1] != b'\x80' or head.startswith(OLD_TORCH):
        return load_torch_file(path)
    try:
        return load_pickle(path)
    except (MemoryError, OSError):
        raise  # of the machine, not of the file
    except Exception as error:
        raise cannot_unpickle(path, error) from error


def _state_dicts(
    content: Any, place: tuple[str, ...] = ()
) -> dict[str, StateDict]:
    """Find the dicts with tensors in a file, by their path of keys."""
    if not isinstance(content, dict) or len(place) > MAX_DEPTH:
        return {}
    items = {k: v for k, v in content.items() if isinstance(k, str)}
    tensors: StateDict = {}
    for name, value in items.items():
        tensor = value.tensor() if isinstance(value, SavedArray) else value
        if isinstance(tensor, Tensor):
            tensors[name] = tensor
    found = {'.'.join(place): tensors} if tensors else {}
    for name, value in items.items():
        found |= _state_dicts(value, (*place, name))
    return found


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


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
            belongs into a part that has no place for it, shapes differ, or a
            value is not finite.

    Example:
        >>> model = {'fc.weight': torch.zeros(2)}
        >>> new = {'fc.weight': torch.ones(2)}
        >>> load_strict(model, new, 'backbone', 'a file')
        'backbone: 1/1 tensors from a file'
        >>> model
        {'fc.weight': tensor([1., 1.])}
    """
    missing, misshapen, extra = _compare(model, tensors)
    missing = [n for n in missing if not n.endswith('.num_batches_tracked')]
    parts = {name.split('.')[0] for name in model}
    extra = [name for name in extra if name.split('.')[0] in parts]
    count = f'of {len(model)} tensors'
    for names, problem in (
        (missing, f'{len(missing)} {count} are not in'),
        (misshapen, f'{len(misshapen)} {count} have another shape in'),
        (extra, f'the model has no place for {len(extra)} tensors of'),
    ):
        if names:
            raise UserError(
                f'{part}: {problem} {origin}, the first is {names[0]}: '
                f'{_likely_cause(model, tensors)}.'
            )
    infinite = [n for n in model if not _is_finite(tensors.get(n))]
    if infinite:
        values = tensors[infinite[0]]
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


def describe_mismatch(model: StateDict, tensors: StateDict) -> str | None:
    """Say where the tensors of a file are not exactly those of a model.

    Returns:
        str | None: The first difference of each kind; None if all names and
        shapes are the same.

    Example:
        >>> describe_mismatch({'a': torch.zeros(2)}, {})
        '1 of 1 tensors are not in the file (a)'
    """
    missing, misshapen, extra = _compare(model, tensors)
    count, problems = f'of {len(model)} tensors', []
    if missing:
        problems.append(
            f'{len(missing)} {count} are not in the file ({missing[0]})'
        )
    if misshapen:
        name = misshapen[0]
        problems.append(
            f'{len(misshapen)} {count} have another shape ({name}: '
            f'{tuple(tensors[name].shape)} in the file, '
            f'{tuple(model[name].shape)} in the model)'
        )
    if extra:
        problems.append(
            f'the model has no place for {len(extra)} tensors of the file '
            f'({extra[0]})'
        )
    return '; '.join(problems) or None


def _compare(
    model: StateDict, tensors: StateDict
) -> tuple[list[str], list[str], list[str]]:
    """List the names that are missing, misshapen, and not in the model."""
    return (
        [name for name in model if name not in tensors],
        [
            name
            for name, tensor in model.items()
            if name in tensors and tensors[name].shape != tensor.shape
        ],
        [name for name in tensors if name not in model],
    )


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


def _is_finite(tensor: Tensor | None) -> bool:
    return tensor is None or bool(tensor.isfinite().all())


def _load_safetensors(path: Path) -> StateDict:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise broken(path, str(error)) from error
