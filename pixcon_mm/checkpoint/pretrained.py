"""Weights that a model or its backbone starts from (``--pretrained``)."""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Any, NamedTuple
from urllib.error import URLError

from mmengine.dist import barrier, is_main_process
from torch import nn

from pixcon_mm.checkpoint.backbone import backbone_tensors, find_backbone
from pixcon_mm.checkpoint.export import resnet_depth
from pixcon_mm.checkpoint.fill import load_strict
from pixcon_mm.checkpoint.load import load_weights, sha256_of
from pixcon_mm.checkpoint.release import from_release
from pixcon_mm.checkpoint.torch_file import StateDict
from pixcon_mm.errors import UserError
from pixcon_mm.wording import listed

WHERE_FROM = (
    'say where the weights of the backbone come from: --pretrained FILE, '
    '--pretrained torchvision (supervised, ImageNet) or --pretrained none '
    '(random)'
)


def checkpoints_of(init_cfg: Any) -> list[Any]:
    """List the checkpoints that MMEngine would load by an ``init_cfg``.

    Args:
        init_cfg (dict | list[dict], optional): One part, several, or none.
    """
    parts = init_cfg or []
    if not isinstance(parts, list | tuple):
        parts = [parts]
    return [part['checkpoint'] for part in parts if 'checkpoint' in part]


class Pretrained(NamedTuple):
    """Weights, and where they are from."""

    tensors: StateDict
    name: str  # file, or torchvision's name of the weights
    sha256: str | None = None  # of the file
    content: str = ''  # a sentence about the file

    @property
    def origin(self) -> str:
        """Name and digest, for messages."""
        digest = f' (sha256 {self.sha256[:16]})' if self.sha256 else ''
        return f'{self.name}{digest}'


def load_pretrained(source: str | Path, backbone: nn.Module) -> Pretrained:
    """Load the weights that ``--pretrained`` names.

    Args:
        source (str | Path): A file (a pre-training checkpoint of ours or the
            release's, an exported backbone, a classifier's state dict), or
            ``'torchvision'`` for its supervised ResNet.
        backbone (nn.Module): Decides which ResNet of torchvision.

    Raises:
        UserError: If the weights are not there.
    """
    if source == 'torchvision':
        return Pretrained(*download(backbone))
    weights = load_weights(source)
    return Pretrained(
        weights.tensors,
        name=str(source),
        sha256=sha256_of(source),
        content=weights.describe(),
    )


def fill_backbone(
    target: StateDict,
    weights: Pretrained,
    prefix: str | None = None,
    classifier: tuple[str, ...] = (),
) -> str:
    """Fill a backbone with all of its tensors; see :func:`load_strict`.

    Args:
        target (dict[str, Tensor]): ``state_dict()`` of the backbone.
        weights (Pretrained): Weights of a network that contains the backbone.
        prefix (str, optional): Prefix of the backbone's names in the file;
            by default, :func:`find_backbone` finds it.
        classifier (tuple[str, ...]): See :func:`load_strict`.

    Returns:
        str: A line for the log.

    Raises:
        UserError: If a tensor would not be filled.
    """
    try:
        if prefix is None:
            found = find_backbone(weights.tensors, target, weights.origin)
            tensors, where = found.tensors, found.describe()
        else:
            tensors = backbone_tensors(weights.tensors, prefix)
            where = f', under {prefix!r}'
        return load_strict(
            target, tensors, 'backbone', weights.origin + where, classifier
        )
    except UserError as error:
        raise UserError(f'{error} {weights.content}'.strip()) from error


def fill_from(
    source: str, model: Any, new_layers: Collection[str] = ()
) -> list[str]:
    """Fill a model from a file or torchvision.

    Args:
        source (str): See :func:`load_pretrained`.
        model (nn.Module): See :func:`fill_model`.
        new_layers (Collection[str]): See :func:`fill_model`.

    Returns:
        list[str]: A line for the log about each part.

    Raises:
        UserError: If the weights are not there or do not fit.
    """
    weights = load_pretrained(source, model.backbone)
    return fill_model(model, weights, new_layers)


def fill_model(
    model: Any, weights: Pretrained, new_layers: Collection[str] = ()
) -> list[str]:
    """Fill the parts of a model that weights are for, at least the backbone.

    A detector's shared head (C4) takes the stage that its backbone lacks. In
    a pre-training, projectors, predictors and key encoder are filled too,
    each of them if the weights have all of its tensors; queues start from
    scratch. MMPretrain copies momentum encoders of its own methods from the
    trained network at the first step.

    Args:
        model (nn.Module): Detector, segmentor or self-supervised model with
            a ``backbone``.
        weights (Pretrained): All tensors of a file of weights.
        new_layers (Collection[str]): Top-level layers of the backbone that
            the pre-training did not have; they keep their initialisation.

    Returns:
        list[str]: A line for the log about each part.

    Raises:
        UserError: If the rest of the backbone cannot be filled completely,
            or if it has no such layer.
    """
    # These tensors share memory with the model's.
    target = model.backbone.state_dict()
    unknown = set(new_layers) - {name.split('.')[0] for name in target}
    if unknown:
        raise UserError(
            f'new_layers of PretrainedHook names {listed(sorted(unknown))}, '
            'but the backbone has no such layer.'
        )
    target = {
        name: tensor
        for name, tensor in target.items()
        if name.split('.')[0] not in new_layers
    }
    roi_head = getattr(model, 'roi_head', None)
    shared_head = getattr(roi_head, 'shared_head', None)
    if shared_head is not None:
        # Its other layer, a norm, is the detector's own.
        target |= {
            name: tensor
            for name, tensor in shared_head.state_dict().items()
            if name.startswith('layer')
        }
    lines = [fill_backbone(target, weights)]
    if new_layers:
        lines.append(f'backbone: new, and not filled: {listed(new_layers)}')
    # Known by its name: an import of MMPretrain would take a fine-tuning
    # seconds.
    bases = [base.__name__ for base in type(model).__mro__]
    if 'BaseSelfSupervisor' not in bases:
        return lines
    tensors = from_release(weights.tensors) or weights.tensors
    for part in ('neck', 'head', 'key_encoder'):
        module = getattr(model, part, None)
        target = module.state_dict() if module is not None else {}
        if not target:  # MMPretrain's heads may have no weights
            continue
        new = {
            name.removeprefix(f'{part}.'): tensor
            for name, tensor in tensors.items()
            if name.startswith(f'{part}.')
        }
        if {name: tensor.shape for name, tensor in new.items()} == {
            name: tensor.shape for name, tensor in target.items()
        }:
            lines.append(load_strict(target, new, part, weights.origin))
        elif part == 'key_encoder':
            model.key_encoder.copy_from(model.backbone, model.neck)
            lines.append('key_encoder: a copy of the query encoder')
        else:
            lines.append(f'{part}: random, the weights have no such part')
    return lines


def download(backbone: nn.Module) -> tuple[StateDict, str]:
    """Download torchvision's weights: ImageNet, with labels, 90 epochs.

    Args:
        backbone (nn.Module): A ResNet of OpenMMLab or torchvision.

    Returns:
        tuple[StateDict, str]: The weights, and their name for messages.

    Raises:
        UserError: If torchvision has none for this backbone, or the download
            fails.
    """
    # Two heavy imports that nothing else here needs.
    import torch.hub
    import torchvision

    depth = getattr(backbone, 'depth', None)
    name = f'resnet{depth or resnet_depth(backbone.state_dict())}'
    if type(backbone).__name__ != 'ResNet' or not hasattr(
        torchvision.models, name
    ):
        raise UserError(
            f'--pretrained torchvision: the backbone is a '
            f'{type(backbone).__name__}, and torchvision has weights for '
            "OpenMMLab's plain ResNet of depth 18, 34, 50, 101 and 152."
        )
    weights = torchvision.models.get_model_weights(name).IMAGENET1K_V1
    # One process of each machine downloads; the others then find the file.
    is_first = int(os.environ.get('LOCAL_RANK', 0)) == 0
    if not is_first:
        barrier()
    try:
        tensors = weights.get_state_dict(
            progress=is_main_process(), check_hash=True, weights_only=True
        )
    except (URLError, OSError, RuntimeError) as error:
        folder = Path(torch.hub.get_dir()) / 'checkpoints'
        raise UserError(
            f"torchvision's {weights} could not be downloaded from "
            f'{weights.url} ({error}): put that file into {folder}, or give '
            'a file of weights with --pretrained FILE.'
        ) from error
    if is_first:
        barrier()
    return tensors, f'torchvision {weights}'
