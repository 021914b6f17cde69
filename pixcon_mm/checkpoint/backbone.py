"""Find the backbone among the tensors of a file of any project."""

import re
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from pixcon_mm.checkpoint.export import detectron2_name
from pixcon_mm.checkpoint.torch_file import StateDict
from pixcon_mm.errors import UserError
from pixcon_mm.wording import listed

# Prefixes of the trained backbone's tensors in checkpoints: the release's, and
# ours and OpenMMLab's. Files of a bare backbone (torchvision) have none.
KNOWN_PREFIXES = ('encoder_q.0.', 'backbone.')
# Parts of a prefix that mark a moving average of the trained network.
# "teacher" is not among them: methods differ in whether the teacher or the
# student is used.
MOVING_AVERAGE = re.compile(
    r'(?:^|[._])(?:key_encoder|encoder_k|momentum|target|ema)(?=[._])'
)
# Names of the layers in ``nn.Sequential(*resnet.children())``, as in Lightly's
# examples. The numbers that are left out are layers without weights.
SEQUENTIAL = {
    'conv1': '0',
    'bn1': '1',
    **{f'layer{stage}': str(stage + 3) for stage in (1, 2, 3, 4)},
}


def _sequential_name(name: str) -> str:
    first, dot, rest = name.partition('.')
    return f'{SEQUENTIAL.get(first, first)}{dot}{rest}'


def _timm_name(name: str) -> str:
    """Rename a tensor of MMPretrain's TIMMBackbone as timm's own model.

    With ``features_only=True``, timm wraps a ViT as ``model``.
    """
    return name.removeprefix('timm_model.').removeprefix('model.')


def _timm_whole_name(name: str) -> str:
    """Rename a tensor of ``features_only=True`` as timm's whole model.

    There, timm has ``stages_0.blocks`` in place of ``stages.0.blocks``.
    """
    return re.sub(r'^([a-z]+)_(\d+)\.', r'\1.\2.', _timm_name(name))


# Functions from a model's names to those that a file may have.
NAMINGS: tuple[Callable[[str], str], ...] = (
    str,
    _timm_name,
    _timm_whole_name,
    _sequential_name,
    detectron2_name,
)


class FoundBackbone(NamedTuple):
    """A backbone that was found in a file."""

    prefix: str  # of its names in the file
    tensors: StateDict  # by the model's names
    left_out: tuple[str, ...] = ()  # prefixes of its moving averages

    def describe(self) -> str:
        """Return its prefix, for messages; '' if the file has nothing else."""
        if not self.prefix and not self.left_out:
            return ''
        where = f'under {self.prefix!r}' if self.prefix else 'without a prefix'
        if not self.left_out:
            return f', {where}'
        return f', {where}, not {listed([*self.left_out])}'


def backbone_tensors(
    tensors: StateDict, prefix: str | None = None
) -> StateDict:
    """Cut the backbone out of the tensors of a file, by its prefix alone.

    Needs no model to compare with, unlike :func:`find_backbone`.

    Args:
        tensors (dict[str, Tensor]): A full pre-training checkpoint, ours or
            the release's, or a bare backbone, or a classifier.
        prefix (str, optional): Prefix of the backbone's names in the file,
            whose last dot may be left out, as in OpenMMLab's ``init_cfg``;
            None tries those of ``KNOWN_PREFIXES``.

    Returns:
        dict[str, Tensor]: The backbone under bare names.

    Raises:
        UserError: If no tensor has the prefix.

    Example:
        >>> backbone_tensors({'backbone.conv1.weight': 1, 'neck.fc': 2})
        {'conv1.weight': 1}
        >>> backbone_tensors({'f.conv1.weight': 1}, prefix='f')
        {'conv1.weight': 1}
    """
    starts: tuple[str, ...] = KNOWN_PREFIXES
    if prefix is not None:
        starts = (f'{prefix}.', prefix) if prefix else ('',)
    for start in starts:
        found = _under(start, tensors)
        if found:
            return found
    if prefix is not None:
        raise UserError(
            f'No tensor of the file begins with {prefix!r}; the first of '
            f'{len(tensors)} is {next(iter(tensors))!r}.'
        )
    return dict(tensors)


def find_backbone(
    tensors: StateDict, model: StateDict, origin: str
) -> FoundBackbone:
    """Find the tensors of a file that fit a model's backbone.

    Names may have any prefix, and may be those of torchvision, timm,
    Lightly's examples or Detectron2. If the file has a network and its
    moving average, the network is taken, as in PixCon.

    Args:
        tensors (dict[str, Tensor]): All tensors of the file.
        model (dict[str, Tensor]): ``state_dict()`` of the model's backbone.
        origin (str): Where the tensors are from, for messages.

    Returns:
        FoundBackbone: The backbone. If none is complete, the tensors under
        the prefix with the most names of the model: :func:`load_strict` then
        says what they lack.

    Raises:
        UserError: If several are complete, such as a teacher and a student.
    """
    complete = _complete_backbones(tensors, model)
    if not complete:
        counts = _prefixes(tensors, {name: name for name in model})
        prefix = counts.most_common(1)[0][0] if counts else ''
        return FoundBackbone(prefix, _under(prefix, tensors))
    prefixes = [found.prefix for found in complete]
    trained = [f for f in complete if not MOVING_AVERAGE.search(f.prefix)]
    # These prefixes mean the trained backbone in every file that has them.
    known = [
        found
        for prefix in KNOWN_PREFIXES
        for found in trained
        if found.prefix == prefix
    ]
    if known:
        trained = known[:1]
    if len(complete) > 1 and len(trained) != 1:
        raise UserError(
            f'{origin} has {len(complete)} different backbones that fit, '
            f'under {listed(prefixes)}: write the one that you want with '
            "'python tools/export_backbone.py FILE --format mmlab --prefix "
            f"{prefixes[-1]}' and give that file to --pretrained."
        )
    (chosen,) = trained or complete
    left_out = [prefix for prefix in prefixes if prefix != chosen.prefix]
    return chosen._replace(left_out=tuple(left_out))


def _complete_backbones(
    tensors: StateDict, model: StateDict
) -> list[FoundBackbone]:
    """List the different backbones of a file that have all of a model's names.

    If some of them also have the model's shapes, only these are listed.
    """
    for rename in NAMINGS:
        # From the file's names to the model's.
        ours = {rename(name): name for name in model}
        # These may be missing.
        needed = [n for n in ours if not n.endswith('.num_batches_tracked')]
        complete: list[FoundBackbone] = []
        for prefix, count in _prefixes(tensors, ours).items():
            if count < len(needed) or any(
                prefix + name not in tensors for name in needed
            ):
                continue
            renamed = {
                ours.get(name, name): tensor
                for name, tensor in _under(prefix, tensors).items()
            }
            # Some files have one network under two names (lucidrains' BYOL).
            if not any(
                _are_equal(renamed, f.tensors, model) for f in complete
            ):
                complete.append(FoundBackbone(prefix, renamed))
        fitting = [f for f in complete if _has_shapes(f.tensors, model)]
        if complete:
            return fitting or complete
    return []


def _prefixes(tensors: StateDict, names: dict[str, str]) -> Counter[str]:
    """Count how many of the names follow each prefix in the file."""
    counts: Counter[str] = Counter()
    for name in tensors:
        starts = [0, *(match.end() for match in re.finditer(r'\.', name))]
        counts.update(name[:s] for s in starts if name[s:] in names)
    return counts


def _under(prefix: str, tensors: StateDict) -> StateDict:
    """Return the tensors under a prefix, without it."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _has_shapes(tensors: StateDict, model: StateDict) -> bool:
    """Check that the shapes of common names are equal."""
    return all(
        tensors[name].shape == tensor.shape
        for name, tensor in model.items()
        if name in tensors
    )


def _are_equal(a: StateDict, b: StateDict, names: StateDict) -> bool:
    """Check that the tensors of these names are equal, where both exist."""
    return all(
        a[name].shape == b[name].shape and bool((a[name] == b[name]).all())
        for name in names
        if name in a and name in b
    )
