"""Load weights from the files of any project, without running code."""

import hashlib
import re
from pathlib import Path
from typing import Any, NamedTuple

from torch import Tensor

from pixcon_mm.checkpoint.stand_ins import SavedArray, load_pickle
from pixcon_mm.checkpoint.torch_file import (
    StateDict,
    broken,
    cannot_unpickle,
    load_torch_file,
)
from pixcon_mm.errors import UserError, suggest
from pixcon_mm.wording import listed

# Keys under which training scripts put the network's weights.
MAIN_PLACES = ('', 'state_dict', 'model')
# Deeper than any script nests its weights.
MAX_DEPTH = 8
# First bytes of files that are often taken for weights, and what they are.
NOT_WEIGHTS = {
    b'<': 'a web page, as after a failed download',
    b'version https://git-lfs': "Git LFS's pointer to it; run 'git lfs pull'",
    b'{': 'JSON',
}
# First bytes of the files that torch.save wrote before it used ZIP archives.
OLD_TORCH = b'\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19.'


class Weights(NamedTuple):
    """Named tensors of a file of weights, and where the file has them."""

    tensors: StateDict
    keys: list[str]  # of the file's top level
    places: dict[str, int]  # tensors by path of keys, '' for the top level
    dataset_meta: dict[str, Any]  # noted by OpenMMLab: classes, palette

    def describe(self) -> str:
        """Say where in the file the tensors are.

        Example:
            >>> Weights({}, ['epoch', 'model'], {'model': 320}, {}).describe()
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
            f'The file has the top-level keys {listed(self.keys)}; '
            f'{", ".join(places)}.'
        )


def load_tensors(path: str | Path) -> StateDict:
    """Load the tensors of a file onto the CPU; see :func:`load_weights`."""
    return load_weights(path).tensors


def load_weights(path: str | Path) -> Weights:
    """Load a checkpoint or a file of weights onto the CPU.

    The file's first bytes decide how it is read, whatever its name: as a file
    of ``torch.save``, of safetensors, or a pickle of NumPy's arrays, such as
    Detectron2's. Tensors are found however deep the file nests them. Those at
    the top level, in ``state_dict`` or in ``model`` keep their names. So do
    those of any other place if it is the only one. Otherwise their names begin
    with the path of keys, as in ``teacher.backbone.conv1.weight``.

    Raises:
        UserError: If there is no such file, or it is damaged, holds code, or
            has no tensors.
    """
    path = Path(path)
    content = _load_content(path)
    try:
        found = _state_dicts(content)
    except ValueError as error:  # an array and its stated size differ
        raise broken(path, str(error)) from error
    # Names of weights have a dot; those of optimisers and logs do not.
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
            'deeper' + (f'; its keys are {listed(keys)}.' if keys else '.')
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
    note = content
    for key in ('meta', 'dataset_meta'):
        note = note.get(key) if isinstance(note, dict) else None
    return Weights(
        tensors, keys, places, note if isinstance(note, dict) else {}
    )


def sha256_of(path: str | Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _load_content(path: Path) -> Any:
    """Read a file in the format that its first bytes indicate."""
    if path.is_dir():
        raise UserError(f'{path} is a folder: name a file of weights in it.')
    # A Path keeps one of the two slashes of an address.
    address = re.sub(r'^([\w-]+:)/(?!/)', r'\1//', str(path))
    if address != str(path):
        raise UserError(
            f'Weights are read from local files: download {address}, and '
            'name the file.'
        )
    if not path.is_file():
        files = sorted(path.parent.glob('*.pth'))
        known = [file.name for file in files]
        raise UserError(
            f'There is no file of weights {str(path)!r}.'
            f'{suggest(path.name, known)}'
            + (f' Its folder has {", ".join(known[:9])}.' if known else '')
        )
    with path.open('rb') as file:
        head = file.read(64)
    # Safetensors: eight bytes for the length of a JSON header, then that.
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
        raise  # the machine's fault, not the file's
    except Exception as error:
        raise cannot_unpickle(path, error) from error


def _state_dicts(content: Any) -> dict[str, StateDict]:
    """Find the dicts with tensors in a file, by their path of keys.

    A dict that several places share, or that contains itself, counts once,
    at the shortest path.
    """
    found: dict[str, StateDict] = {}
    seen = {id(content)}
    places: list[tuple[tuple[str, ...], Any]] = [((), content)]
    for place, node in places:  # the loop appends to this list
        if not isinstance(node, dict):
            continue
        tensors: StateDict = {}
        for name, value in node.items():
            if not isinstance(name, str):
                continue
            is_array = isinstance(value, SavedArray)
            tensor = value.tensor() if is_array else value
            if isinstance(tensor, Tensor):
                tensors[name] = tensor
            elif len(place) < MAX_DEPTH and id(value) not in seen:
                seen.add(id(value))
                places.append(((*place, name), value))
        if tensors:
            found['.'.join(place)] = tensors
    return found


def _load_safetensors(path: Path) -> StateDict:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise broken(path, str(error)) from error
