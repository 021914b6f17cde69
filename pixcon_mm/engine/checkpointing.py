"""Gather and save a runner's checkpoint; fill a model from ``load_from``."""

import time
from collections.abc import Container
from pathlib import Path

import mmengine
from mmengine.runner import Runner
from mmengine.runner.checkpoint import weights_to_cpu
from torch import Tensor

from pixcon_mm.checkpoint.fill import check_values
from pixcon_mm.checkpoint.load import load_tensors
from pixcon_mm.checkpoint.run_checkpoint import Checkpoint, write_checkpoint
from pixcon_mm.engine.model_state import find_non_finite, unwrap
from pixcon_mm.engine.resuming import scale_of
from pixcon_mm.errors import UserError


def gather_checkpoint(
    runner: Runner, meta: dict, with_optimizer: bool, with_schedulers: bool
) -> Checkpoint:
    """Gather what a resumed run needs.

    Args:
        runner (Runner): A runner that is training.
        meta (dict): ``epoch`` and ``iter`` that are done.
        with_optimizer (bool): Whether to add the optimiser's state.
        with_schedulers (bool): Whether to add the schedulers' state.
    """
    checkpoint = dict(
        meta=dict(
            meta,
            scale=scale_of(runner),
            cfg=runner.cfg.pretty_text,
            seed=runner.seed,
            experiment_name=runner.experiment_name,
            time=time.strftime('%Y%m%d_%H%M%S'),
            mmengine_version=mmengine.__version__,
            # For OpenMMLab's tools: names of classes, colours.
            dataset_meta=getattr(
                runner.train_dataloader.dataset, 'metainfo', None
            ),
        ),
        state_dict=weights_to_cpu(unwrap(runner.model).state_dict()),
        message_hub=runner.message_hub.state_dict(),
    )
    if with_optimizer:
        checkpoint['optimizer'] = runner.optim_wrapper.state_dict()
    if with_schedulers and runner.param_schedulers is not None:
        # A list: runs with several optimisers, which would have a dict of
        # lists, are refused elsewhere.
        checkpoint['param_schedulers'] = [
            scheduler.state_dict() for scheduler in runner.param_schedulers
        ]
    return checkpoint


def save_finite(
    checkpoint: Checkpoint, path: Path, exempt: Container[str] = ()
) -> None:
    """Write a checkpoint unless a value in it is not finite.

    Args:
        checkpoint (dict): Weights, averaged weights and optimiser are checked.
        path (Path): File to write.
        exempt (Container[str]): Buffers that need not be finite.

    Raises:
        UserError: If a tensor is not finite. Names the first one; nothing is
            written.
    """
    tensors = dict(checkpoint['state_dict'])
    for name, value in checkpoint.get('ema_state_dict', {}).items():
        tensors[f'average of {name.removeprefix("module.")}'] = value
    states = checkpoint.get('optimizer', {}).get('state', {})
    for index, state in states.items():
        for name, value in state.items():
            tensors[f'{name} of parameter {index}'] = value
    bad = find_non_finite(
        {
            name: value
            for name, value in tensors.items()
            if isinstance(value, Tensor)
            and name.removeprefix('average of ') not in exempt
        }
    )
    if bad:
        raise UserError(
            f'{path} is not written: {bad[0]} is not finite after iteration '
            f'{checkpoint["meta"]["iter"]}: the training has diverged. '
            'Resume from the previous checkpoint with a lower learning rate '
            'or a longer warm-up.'
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_checkpoint(checkpoint, path)


def load_fitting_weights(runner: Runner, filename: str) -> Checkpoint:
    """Fill a runner's model with the tensors of a file that fit it.

    This is ``load_from=``, for files of a whole model; ``--pretrained`` fills
    a backbone, strictly, in ``PretrainedHook``. One warning names tensors of
    the model that are not filled, such as a head for other classes.

    Args:
        runner (Runner): A runner that has its model.
        filename (str): A local file of weights.

    Returns:
        dict: ``state_dict``, all tensors of the file.

    Raises:
        UserError: If nothing fits, or a tensor that fits cannot be trained on.
    """
    tensors = {
        name.removeprefix('module.'): tensor
        for name, tensor in load_tensors(filename).items()
    }
    checkpoint = dict(state_dict=tensors)
    runner.call_hook('after_load_checkpoint', checkpoint=checkpoint)
    model = unwrap(runner.model).state_dict()
    fitting = {
        name: tensor
        for name, tensor in tensors.items()
        if name in model and model[name].shape == tensor.shape
    }
    if not fitting:
        raise UserError(
            f'load_from: none of the {len(tensors)} tensors of {filename} '
            f'fits the model; the first is {next(iter(tensors))}. Use '
            '--pretrained for weights of a backbone.'
        )
    check_values(model, fitting, 'load_from', filename)
    unwrap(runner.model).load_state_dict({**model, **fitting})
    runner.logger.info(
        f'model: {len(fitting)}/{len(model)} tensors from {filename}'
    )
    random = [name for name in model if name not in fitting]
    if random:
        runner.logger.warning(
            f'{len(random)} tensors of the model start random, because '
            f'{filename} lacks them or has them in another shape; the first '
            f'is {random[0]}.'
        )
    return checkpoint
