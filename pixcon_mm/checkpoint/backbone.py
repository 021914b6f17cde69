"""Find the backbone among the tensors of a file, whoever has written it."""

import re
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple

from pixcon_mm.checkpoint.export import detectron2_name
from pixcon_mm.checkpoint.torch_file import StateDict
from pixcon_mm.errors import UserError
from pixcon_mm.wording import listed

# Where checkpoints hold the trained backbone: the release's, ours and
# OpenMMLab's. A file of a bare backbone has none, as torchvision's.
PREFIXES = ('encoder_q.0.', 'backbone.')
# Parts of a prefix that mark a moving average of the trained network.
# "teacher" is not among them: methods differ in whether the teacher or the
# student is used.
MOVING_AVERAGE = re.compile(
    r'(?:^|[._])(?:key_encoder|encoder_k|momentum|target|ema)(?=[._])'
)
# The layers of ``nn.Sequential(*resnet.children())``, as Lightly's examples
# have them. Numbers between are layers without weights.
SEQUENTIAL = {
    'conv1': '0',
    'bn1': '1',
    **{f'layer{stage}': str(stage + 3) for stage in (1, 2, 3, 4)},
}


def _sequential_name(name: str) -> str:
    first, dot, rest = name.partition('.')
    return f'{SEQUENTIAL.get(first, first)}{dot}{rest}'


def _timm_name(name: str) -> str:
    """Rename a tensor of MMPretrain's TIMMBackbone as timm's own model."""
    return name.removeprefix('timm_model.')


def _timm_whole_name(name: str) -> str:
    """Rename one of ``features_only=True``, where timm joins two levels."""
    return re.sub(r'^([a-z]+)_(\d+)\.', r'\1.\2.', _timm_name(name))


# From a model's names to those of a file: the same, or those of a library.
NAMINGS: tuple[Callable[[str], str], ...] = (
    str,
    _timm_name,
    _timm_whole_name,
    _sequential_name,
    detectron2_name,
)


class Place(NamedTuple):
    """A backbone in a file: its tensors by the model's names."""

    prefix: str  # of its names in the file
    tensors: StateDict
    left_out: tuple[str, ...] = ()  # prefixes of its moving averages

    def describe(self) -> str:
        """Say where it was; nothing if the file has only a backbone."""
        if not self.prefix and not self.left_out:
            return ''
        where = f'under {self.prefix!r}' if self.prefix else 'without a prefix'
        if not self.left_out:
            return f', {where}'
        return f', {where}, not {listed([*self.left_out])}'


def backbone_tensors(
    tensors: StateDict, prefix: str | None = None
) -> StateDict:
    """Cut the backbone out of the tensors of a file, whatever model it is.

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
        found = _under(start, tensors)
        if found:
            return found
    if prefix is not None:
        raise UserError(
            f'No tensor of the file begins with {prefix!r}; the first of '
            f'{len(tensors)} is {next(iter(tensors))!r}.'
        )
    return dict(tensors)


def find_backbone(tensors: StateDict, model: StateDict, origin: str) -> Place:
    """Find the backbone in a file that has all tensors of the model's.

    Names may have any prefix, and may be those of torchvision, timm,
    Lightly's examples or Detectron2. If the file has a network and its
    moving average, the network is taken, as in PixCon.

    Args:
        tensors (dict[str, Tensor]): Content of a file.
        model (dict[str, Tensor]): The model's backbone.
        origin (str): Where the tensors are from, for messages.

    Returns:
        Place: The backbone; if none is complete, the tensors that match best.

    Raises:
        UserError: If there are several, as of a teacher and a student.
    """
    places = _complete_places(tensors, model)
    if not places:
        counts = _prefixes(tensors, {name: name for name in model})
        prefix = counts.most_common(1)[0][0] if counts else ''
        return Place(prefix, _under(prefix, tensors))
    prefixes = [place.prefix for place in places]
    trained = [p for p in places if not MOVING_AVERAGE.search(p.prefix)]
    # These names mean the same in all files that have them.
    known = [p for start in PREFIXES for p in trained if p.prefix == start]
    if known:
        trained = known[:1]
    if len(places) > 1 and len(trained) != 1:
        raise UserError(
            f'{origin} has {len(places)} different backbones that fit, under '
            f'{listed(prefixes)}: write the one that you want with '
            "'python tools/export_backbone.py FILE --format mmlab --prefix "
            f"{prefixes[-1]}' and give that file to --pretrained."
        )
    (chosen,) = trained or places
    left_out = [prefix for prefix in prefixes if prefix != chosen.prefix]
    return chosen._replace(left_out=tuple(left_out))


def _complete_places(tensors: StateDict, model: StateDict) -> list[Place]:
    """List the different backbones of a file that have a model's names."""
    for rename in NAMINGS:
        ours = {rename(name): name for name in model}
        # The count of batches of a BN layer may be missing.
        needed = [n for n in ours if not n.endswith('.num_batches_tracked')]
        places: list[Place] = []
        for prefix, count in _prefixes(tensors, ours).items():
            if count < len(needed) or any(
                prefix + name not in tensors for name in needed
            ):
                continue
            found = {
                ours.get(name, name): tensor
                for name, tensor in _under(prefix, tensors).items()
            }
            # Two names of one network, as in lucidrains' BYOL.
            if not any(_are_equal(found, p.tensors, model) for p in places):
                places.append(Place(prefix, found))
        fitting = [p for p in places if _has_shapes(p.tensors, model)]
        if places:
            return fitting or places
    return []


def _prefixes(tensors: StateDict, names: dict[str, str]) -> Counter[str]:
    """Count the names that follow each prefix."""
    counts: Counter[str] = Counter()
    for name in tensors:
        starts = [0, *(match.end() for match in re.finditer(r'\.', name))]
        counts.update(name[:s] for s in starts if name[s:] in names)
    return counts


def _under(prefix: str, tensors: StateDict) -> StateDict:
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in tensors.items()
        if name.startswith(prefix)
    }


def _has_shapes(tensors: StateDict, model: StateDict) -> bool:
    return all(
        tensors[name].shape == tensor.shape
        for name, tensor in model.items()
        if name in tensors
    )


def _are_equal(a: StateDict, b: StateDict, names: StateDict) -> bool:
    return all(
        a[name].shape == b[name].shape and bool((a[name] == b[name]).all())
        for name in names
        if name in a and name in b
    )
