"""Load weights from files safely, and into models completely."""

import hashlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pixcon_mm.checkpoint.export import resnet_depth
from pixcon_mm.checkpoint.torch_file import StateDict, broken, load_torch_file
from pixcon_mm.errors import UserError

# Where training scripts put the weights beside other things.
CONTAINERS = ('state_dict', 'model')
# Where checkpoints hold the backbone: the release's, ours and OpenMMLab's.
# A file of a bare backbone has none, as torchvision's.
PREFIXES = ('encoder_q.0.', 'backbone.')
# What a failed download leaves in place of a file, by its first bytes.
NOT_WEIGHTS = {
    b'<': 'a web page, as after a failed download',
    b'version https://git-lfs': "Git LFS's pointer to it; run 'git lfs pull'",
    b'{': 'JSON',
}


def load_tensors(path: str | Path) -> StateDict:
    """Load the tensors of a checkpoint or a file of weights onto the CPU.

    Args:
        path (str | Path): File of ``torch.save`` (a training checkpoint or a
            state dict), or of safetensors.

    Raises:
        UserError: If there is no such file, or it is damaged, holds code, or
            has no tensors.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f'{path} is a folder: name a file of weights in it.')
    if not path.is_file():
        raise UserError(f'There is no file of weights {str(path)!r}.')
    with path.open('rb') as file:
        head = file.read(64).lstrip()
    for start, what in NOT_WEIGHTS.items():
        if head.startswith(start):
            raise UserError(f'{path} does not hold weights but {what}.')
    content: Any
    if path.suffix == '.safetensors':
        content = _load_safetensors(path)
    else:
        content = load_torch_file(path)
    content = content if isinstance(content, dict) else {}
    for name in CONTAINERS:
        if isinstance(content.get(name), dict):
            content = content[name]
            break
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)}
    if not tensors:
        raise UserError(
            f'{path} has no named tensors, neither at the top level nor under '
            f'{" or ".join(map(repr, CONTAINERS))}.'
        )
    return tensors


def backbone_tensors(
    tensors: StateDict, prefix: str | None = None
) -> StateDict:
    """Find the query backbone among the tensors of a file.

    Args:
        tensors (dict[str, Tensor]): A full pre-training checkpoint, ours or
            the release's, or a bare backbone, or a classifier.
        prefix (str, optional): Where a foreign file has the backbone.

    Returns:
        dict[str, Tensor]: The backbone under bare names.

    Raises:
        UserError: If no tensor has the prefix.

    Example:
        >>> backbone_tensors({'backbone.conv1.weight': 1, 'neck.fc': 2})
        {'conv1.weight': 1}
        >>> backbone_tensors({'f.conv1.weight': 1}, prefix='f.')
        {'conv1.weight': 1}
    """
    for start in PREFIXES if prefix is None else (prefix,):
        found = {
            name.removeprefix(start): tensor
            for name, tensor in tensors.items()
            if name.startswith(start)
        }
        if found:
            return found
    if prefix is not None:
        raise UserError(
            f'No tensor of the file begins with {prefix!r}; the first of '
            f'{len(tensors)} is {next(iter(tensors))!r}.'
        )
    return dict(tensors)


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
    infinite = [
        name
        for name, tensor in tensors.items()
        if name in model and not tensor.isfinite().all()
    ]
    count = f'of {len(model)} tensors'
    for names, problem in (
        (missing, f'{len(missing)} {count} are not in'),
        (misshapen, f'{len(misshapen)} {count} have another shape in'),
        (infinite, f'{len(infinite)} {count} are not finite in'),
        (extra, f'the model has no place for {len(extra)} tensors of'),
    ):
        if names:
            raise UserError(
                f'{part}: {problem} {origin}, the first is {names[0]}: '
                f'{_likely_cause(model, tensors)}.'
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
    probe = max(model, key=len)
    for name in tensors:
        if name.endswith((f'.{probe}', f'_{probe}')):
            prefix = name.removesuffix(probe)
            return (
                f'their names begin with {prefix!r}; take the backbone out '
                "with 'python tools/export_backbone.py FILE --format mmlab "
                f"--prefix {prefix}'"
            )
    if model.keys() & tensors.keys():
        return 'only some of the weights belong to this model'
    return 'they belong to another model'


def _load_safetensors(path: Path) -> StateDict:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise broken(path, str(error)) from error
