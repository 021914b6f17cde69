"""Weights that the backbone of a run starts from (``--pretrained``)."""

import os
from pathlib import Path
from urllib.error import URLError

from mmengine.dist import barrier, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

from pixcon_mm.checkpoint.backbone import find_backbone
from pixcon_mm.checkpoint.fill import load_strict
from pixcon_mm.checkpoint.load import load_weights, sha256_of
from pixcon_mm.checkpoint.release import from_release
from pixcon_mm.checkpoint.torch_file import StateDict
from pixcon_mm.engine.model_state import unwrap
from pixcon_mm.errors import UserError

WHERE_FROM = (
    'say where the weights of the backbone come from: --pretrained FILE, '
    '--pretrained torchvision (supervised, ImageNet) or --pretrained none '
    '(random)'
)


@HOOKS.register_module()
class PretrainedHook(Hook):
    """Fill the whole backbone before the first iteration.

    ``tools/train.py --pretrained SOURCE`` sets the hook's ``source`` in the
    config. A file is read by :func:`load_weights`; :func:`find_backbone` finds
    the backbone in it, under whatever prefix; :func:`load_strict` copies it,
    and stops the run if a tensor would stay random.

    A detector's shared head (C4) takes the stage that its backbone lacks. In
    a pre-training, projectors, predictors and key encoder are filled too,
    each of them if the file has all of its tensors; queues and optimiser start
    from scratch. A run that resumes, or that has ``load_from``, keeps the
    weights of that checkpoint.

    Args:
        source (str, optional): A file (a pre-training checkpoint of ours or
            the release's, an exported backbone, a classifier's state dict),
            ``'torchvision'`` or ``'none'``.

    Raises:
        UserError: If there is no source and nothing to resume, or a tensor
            would not be filled.
    """

    priority = 'VERY_HIGH'

    def __init__(self, source: str | None = None):
        self.source = source

    def before_train(self, runner: Runner) -> None:
        """Fill the backbone; log where the weights come from.

        Every process fills its own copy of the model.
        """
        if runner._has_loaded:  # by resume or load_from
            runner.logger.info('backbone: weights of the checkpoint above')
            return
        if self.source is None:
            raise UserError(f'This config fine-tunes: {WHERE_FROM}.')
        if self.source == 'none':
            runner.logger.info('backbone: random weights (--pretrained none)')
            return
        model = unwrap(runner.model)
        for line in fill_from(self.source, model):
            runner.logger.info(line)
        if getattr(model.backbone, 'style', 'pytorch') == 'caffe':
            runner.logger.warning(
                "The backbone has style='caffe' (stride in the 1x1 "
                'convolutions), which no tensor shows: weights of torchvision '
                "or of this project's pre-training need style='pytorch'."
            )


def fill_from(source: str, model: nn.Module) -> list[str]:
    """Fill a model from ``'torchvision'`` or a file; see :func:`fill_model`.

    Raises:
        UserError: If the weights are not there or do not fit.
    """
    if source == 'torchvision':
        return fill_model(model, *download(model.backbone))
    weights = load_weights(source)
    origin = f'{source} (sha256 {sha256_of(source)[:16]})'
    try:
        return fill_model(model, weights.tensors, origin)
    except UserError as error:
        raise UserError(f'{error} {weights.describe()}') from error


def fill_model(model: nn.Module, tensors: StateDict, origin: str) -> list[str]:
    """Fill the parts of a model that weights are for.

    Args:
        model (nn.Module): Detector, segmentor or self-supervised model with
            a ``backbone``.
        tensors (dict[str, Tensor]): All tensors of a file of weights.
        origin (str): Where they are from, for messages.

    Returns:
        list[str]: A line for the log about each part.

    Raises:
        UserError: If the backbone cannot be filled completely.
    """
    # These tensors share memory with the model's.
    target = model.backbone.state_dict()
    roi_head = getattr(model, 'roi_head', None)
    shared_head = getattr(roi_head, 'shared_head', None)
    if shared_head is not None:
        # Its other layer, a norm, is the detector's own.
        target |= {
            name: tensor
            for name, tensor in shared_head.state_dict().items()
            if name.startswith('layer')
        }
    found = find_backbone(tensors, target, origin)
    where = origin + found.describe()
    lines = [load_strict(target, found.tensors, 'backbone', where)]
    if not hasattr(model, 'key_encoder'):
        return lines
    if 'encoder_q.0.conv1.weight' in tensors:
        # The release, or another method whose encoder has the same name.
        try:
            tensors = from_release(tensors)
        except KeyError:
            tensors = {}  # another method: only its backbone fits
    for part in ('neck', 'head', 'key_encoder'):
        target = getattr(model, part).state_dict()
        new = {
            name.removeprefix(f'{part}.'): tensor
            for name, tensor in tensors.items()
            if name.startswith(f'{part}.')
        }
        if {name: tensor.shape for name, tensor in new.items()} == {
            name: tensor.shape for name, tensor in target.items()
        }:
            lines.append(load_strict(target, new, part, origin))
        elif part == 'key_encoder':
            model.key_encoder.copy_from(model.backbone, model.neck)
            lines.append('key_encoder: a copy of the query encoder')
        else:
            lines.append(f'{part}: random, the weights have no such part')
    return lines


def download(backbone: nn.Module) -> tuple[StateDict, str]:
    """Download torchvision's weights: ImageNet, with labels, 90 epochs.

    Args:
        backbone (nn.Module): A ResNet of OpenMMLab.

    Returns:
        tuple[StateDict, str]: The weights, and their name for messages.

    Raises:
        UserError: If torchvision has none for this backbone, or the download
            fails.
    """
    # Two heavy imports that no other hook needs.
    import torch.hub
    import torchvision

    name = f'resnet{getattr(backbone, "depth", "")}'
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
