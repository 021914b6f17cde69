"""Weights that the backbone of a run starts from (``--pretrained``)."""

from collections.abc import Collection
from pathlib import Path

from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import nn

from pixcon_mm.checkpoint.load import sha256_of
from pixcon_mm.checkpoint.pretrained import (
    WHERE_FROM,
    checkpoints_of,
    fill_model,
    load_pretrained,
)
from pixcon_mm.engine.model_state import unwrap
from pixcon_mm.errors import UserError


@HOOKS.register_module()
class PretrainedHook(Hook):
    """Fill the whole backbone before the first iteration.

    ``tools/train.py --pretrained SOURCE`` sets the hook's ``source`` in the
    config; :func:`fill_model` says what is filled. A run that resumes, or that
    has ``load_from``, keeps the weights of that checkpoint.

    Args:
        source (str, optional): A file (a pre-training checkpoint of ours or
            the release's, an exported backbone, a classifier's state dict),
            ``'torchvision'`` or ``'none'``.
        new_layers (Collection[str]): Layers of the backbone that are not
            filled, because the pre-training did not have them.

    Raises:
        UserError: If there is no source and nothing to resume, if the run
            that is resumed has started from another source, or if a tensor
            would not be filled.
    """

    priority = 'VERY_HIGH'

    def __init__(
        self, source: str | None = None, new_layers: Collection[str] = ()
    ):
        self.source = source
        self.new_layers = new_layers

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Stop if the run that is resumed has started from other weights.

        Nothing has been loaded or moved yet.
        """
        hub = checkpoint.get('message_hub')  # load_from has none
        if hub is None or self.source is None:
            return
        known = hub.get('runtime_info', {}).get('pretrained')
        own = _identity(self.source)
        if known is None or own is None:
            # The source was not recorded, or its file is gone.
            runner.logger.warning(
                f'--pretrained {self.source} is not used: the run continues '
                'with the weights of its checkpoint.'
            )
        elif own != known:
            raise UserError(
                f'--pretrained {self.source}: the run that is resumed has '
                f'started from other weights ({known:.16}). Choose another '
                '--work-dir for a new run, or leave out --pretrained.'
            )

    def before_train(self, runner: Runner) -> None:
        """Fill the backbone; log where the weights come from.

        Every process fills its own copy of the model.
        """
        if runner._has_loaded:  # by resume or load_from
            runner.logger.info('backbone: weights of the checkpoint above')
            return
        if self.source is None:
            raise UserError(f'This config fine-tunes: {WHERE_FROM}.')
        model = unwrap(runner.model)
        hub = runner.message_hub  # saved in every checkpoint
        if self.source == 'none':
            hub.update_info('pretrained', self.source)
            _log_initialisation(runner, getattr(model, 'backbone', model))
            return
        weights = load_pretrained(self.source, model.backbone)
        # What _identity() returns for this source.
        hub.update_info('pretrained', weights.sha256 or self.source)
        for line in fill_model(model, weights, self.new_layers):
            runner.logger.info(line)
        if getattr(model.backbone, 'style', 'pytorch') == 'caffe':
            runner.logger.warning(
                "The backbone has style='caffe' (stride in the 1x1 "
                'convolutions), which no tensor shows: weights of torchvision '
                "or of this project's pre-training need style='pytorch'."
            )


def _log_initialisation(runner: Runner, backbone: nn.Module) -> None:
    """Log what a backbone starts from if the hook fills nothing."""
    loaded = checkpoints_of(getattr(backbone, 'init_cfg', None))
    if any(loaded):
        runner.logger.warning(
            'backbone: not random despite --pretrained none: MMEngine has '
            'loaded the tensors that fit from the file in its init_cfg, '
            f'{next(filter(None, loaded))}'
        )
    else:
        runner.logger.info('backbone: random weights (--pretrained none)')


def _identity(source: str) -> str | None:
    """Return a text that differs between sources; None for a lost file."""
    if source in ('none', 'torchvision'):
        return source
    return sha256_of(source) if Path(source).is_file() else None
