"""Read files of weights safely, and find the backbone in them."""

import hashlib
from pathlib import Path

from torch import Tensor

from pixcon_mm.checkpoint.torch_file import load_torch_file
from pixcon_mm.errors import UserError

StateDict = dict[str, Tensor]

# Where training scripts put the weights beside other things.
CONTAINERS = ('state_dict', 'model')
# Where checkpoints hold the backbone: the release's, ours and OpenMMLab's.
# A file of a bare backbone has none, as torchvision's.
PREFIXES = ('encoder_q.0.', 'backbone.')
TEXT = {
    b'<': 'a web page, as a failed download leaves it',
    b'version https://git-lfs': "Git LFS's pointer to it; run 'git lfs pull'",
    b'{': 'JSON',
}


def read_tensors(path: str | Path) -> StateDict:
    """Tensors of a checkpoint or a file of weights, on the CPU.

    Nothing but tensors and plain values is unpickled: a file with code in it
    is refused.

    Args:
        path (str | Path): File of ``torch.save`` (a training checkpoint or a
            state dict), or of safetensors.

    Raises:
        UserError: If there is no such file, or it cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        raise UserError(f'{path} is a folder: name a file of weights in it.')
    if not path.is_file():
        raise UserError(f'There is no file of weights {str(path)!r}.')
    head = path.open('rb').read(64)
    for start, what in TEXT.items():
        if head.lstrip().startswith(start):
            raise UserError(f'{path} holds no weights, but {what}.')
    content = _load(path)
    for name in CONTAINERS:
        if isinstance(content, dict) and isinstance(content.get(name), dict):
            content = content[name]
            break
    tensors = {
        name: value
        for name, value in (
            content.items() if isinstance(content, dict) else ()
        )
        if isinstance(value, Tensor)
    }
    if not tensors:
        raise UserError(
            f'{path} holds no tensors by name, neither by itself nor under '
            f'{" or ".join(map(repr, CONTAINERS))}.'
        )
    return tensors


def backbone_tensors(
    tensors: StateDict, prefix: str | None = None
) -> StateDict:
    """The query backbone among the tensors of a file, under bare names.

    Args:
        tensors (dict[str, Tensor]): A full pre-training checkpoint, ours or
            the release's, or a bare backbone, or a classifier.
        prefix (str, optional): Where a foreign file has the backbone.

    Example:
        >>> backbone_tensors({'backbone.conv1.weight': 1, 'neck.fc': 2})
        {'conv1.weight': 1}
        >>> backbone_tensors({'f.conv1.weight': 1}, prefix='f.')
        {'conv1.weight': 1}
    """
    prefixes = PREFIXES if prefix is None else (prefix,)
    for start in prefixes:
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
    """SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, 'rb') as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _load(path: Path) -> object:
    if path.suffix == '.safetensors':
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise UserError(
                f'{path} is no file of weights, or is broken or cut short: '
                f'copy or download it again ({error}).'
            ) from error
    return load_torch_file(path)
