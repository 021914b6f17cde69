"""Quality of the features while a backbone is being trained."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar, cast

import torch
from mmengine.dist import all_gather_object, all_reduce, broadcast
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn

from pixcon_mm.engine.hooks.checkpoint_hook import WholeCheckpointHook
from pixcon_mm.engine.model_state import (
    eval_mode,
    unwrap,
    validated_model,
)
from pixcon_mm.errors import UserError

Result = TypeVar('Result')
LABELLED = 256  # images in the memory, and images that are segmented
MEMORY = 10240  # cells in the memory
BATCH_SIZE = 32


@HOOKS.register_module()
class DenseProbeHook(Hook):
    """Evaluate the frozen backbone after every few epochs.

    Measures correspondence of two crops of training photographs, which
    needs no labels; with ``data_root`` also dense nearest neighbours on a
    small part of a labelled tree (docs/evaluation.md, section 6). Results
    are logged beside the loss as ``probe_recall_at_1``,
    ``probe_recall_within_1_cell`` and ``probe_miou``; a checkpoint hook with
    ``save_best`` set to one of them keeps the best checkpoint.

    The training is the same, bit for bit, with and without it, and continues
    if an image becomes unreadable. The images are divided among the processes.

    Args:
        interval (int): Epochs between two evaluations; the last epoch has
            one, too.
        num_images (int): Photographs for correspondence.
        crop_size (int): Side of a crop after resizing, in pixels.
        data_root (str, optional): Tree of VOC, Cityscapes, ADE20K,
            COCO-panoptic, or of masks of the user's own, for nearest
            neighbours.
        classes (Sequence[str], optional): Names of the classes to evaluate;
            for masks of the user's own, of all classes.
        mask_values (Sequence[int], optional): Value of each class in masks of
            the user's own, if these are not 0, 1, 2, ...
        size (int): Side of labelled images, in pixels.
    """

    # After the schedulers' steps (LOW), so that the best checkpoint includes
    # them; before the regular checkpoint (VERY_LOW), so that this includes the
    # best score.
    priority = 80

    def __init__(
        self,
        interval: int = 10,
        num_images: int = 256,
        crop_size: int = 224,
        data_root: str | None = None,
        classes: Sequence[str] | None = None,
        size: int = 448,
        mask_values: Sequence[int] | None = None,
    ):
        if min(interval, num_images) < 1:
            raise UserError(
                'DenseProbeHook: interval and num_images must be at least 1.'
            )
        self.interval, self.num_images = interval, num_images
        self.crop_size, self.size = crop_size, size
        self.data_root, self.classes = data_root, classes
        self.mask_values = mask_values

    def before_train(self, runner: Runner) -> None:
        """Choose the images; stop if the data or settings do not fit."""
        # These import MMPretrain, which only its trainings need.
        from pixcon_mm.evaluation.correspondence import CropPairs
        from pixcon_mm.evaluation.dense_data import DenseData
        from pixcon_mm.evaluation.features import check_size

        paths = sample_images(runner, self.num_images)
        with _frozen(runner) as backbone:
            sides = (self.crop_size, self.crop_size)
            check_size(sides, backbone.stride, 'DenseProbeHook: crop_size')
            size = (self.size, self.size)
            if self.data_root is not None:
                check_size(size, backbone.stride, 'DenseProbeHook: size')
        self._pairs = CropPairs(paths, self.crop_size)
        self._labelled = None
        names = ['probe_recall_at_1', 'probe_recall_within_1_cell']
        if self.data_root is not None:
            self._labelled = [
                DenseData(
                    self.data_root,
                    split,
                    size,
                    self.classes,
                    self.mask_values,
                )
                for split in ('train', 'val')
            ]
            names.append('probe_miou')
            _in_all(lambda: self._read_labelled(runner))
        for hook in runner.hooks:
            if isinstance(hook, WholeCheckpointHook) and hook.save_best:
                for name in hook.key_indicators:
                    if name.startswith('probe_') and name not in names:
                        raise UserError(
                            f'default_hooks.checkpoint.save_best={name!r}: '
                            f'DenseProbeHook measures {", ".join(names)}, '
                            'and probe_miou with a data_root.'
                        )
        self._last = time.monotonic()

    def _read_labelled(self, runner: Runner) -> None:
        """Read this process's share once, as mistakes should show early."""
        for data in self._labelled or ():
            for index in _share(len(data), runner.rank, runner.world_size):
                data[index]

    def after_train_epoch(self, runner: Runner) -> None:
        """Evaluate, log, and keep the checkpoint if it is the best."""
        if not is_due(self, runner):
            return
        epoch, start = runner.epoch + 1, time.monotonic()
        try:
            with _frozen(runner) as backbone:
                found = self._measure(backbone, runner.rank, runner.world_size)
        except UserError as error:
            # An image was damaged or removed since the start, where all were
            # read. The training continues.
            runner.logger.warning(f'no probe after epoch {epoch}: {error}')
            return
        end = time.monotonic()
        seconds, between = end - start, end - self._last
        self._last = end
        runner.visualizer.add_scalars(
            dict(found, probe_seconds=seconds, epoch=epoch), step=runner.iter
        )
        values = ', '.join(
            f'{name.removeprefix("probe_").replace("_", " ")} {value:.4g}'
            for name, value in found.items()
        )
        runner.logger.info(
            f'probe after epoch {epoch}: {values} ({seconds:.1f} s, '
            f'{seconds / between:.1%} of the time since the last)'
        )
        for hook in runner.hooks:
            if isinstance(hook, WholeCheckpointHook) and hook.save_best:
                hook.keep_best(runner, found)

    def _measure(
        self, backbone: nn.Module, rank: int, world_size: int
    ) -> dict[str, float]:
        """Evaluate this process's share, and add up those of all."""
        from torch.utils.data import Subset

        from pixcon_mm.evaluation import correspondence, nearest_neighbors
        from pixcon_mm.evaluation.metrics import segmentation_metrics

        pairs = Subset(self._pairs, range(rank, len(self._pairs), world_size))
        counts = _in_all(
            lambda: correspondence.match(
                backbone, pairs, batch_size=BATCH_SIZE
            )
        )
        all_reduce(counts)
        found = {
            f'probe_{name}': value
            for name, value in correspondence.summarize(counts).items()
            if name.startswith('recall')
        }
        if self._labelled is None:
            return found
        train, val = self._labelled
        part = _in_all(
            lambda: nearest_neighbors.build_memory(
                backbone,
                train,
                _share(len(train), rank, world_size),
                -(-MEMORY // world_size),
                batch_size=BATCH_SIZE,
            )
        )
        parts = all_gather_object([tensor.cpu() for tensor in part])
        memory = nearest_neighbors.Memory(
            *(
                torch.cat(tensors).to(backbone.mean.device)
                for tensors in zip(*parts, strict=True)
            )
        )
        tested = _share(len(val), rank, world_size)
        confusion = _in_all(
            lambda: nearest_neighbors.segment(
                backbone, val, tested, memory, batch_size=BATCH_SIZE
            )
        )
        all_reduce(confusion)
        metrics = segmentation_metrics(confusion, val.classes)
        return dict(found, probe_miou=metrics['miou'])


def _share(total: int, rank: int, world_size: int) -> list[int]:
    """Choose a process's part of the labelled images.

    They are evenly spaced, because lists are sorted by city or scene.
    """
    from pixcon_mm.datasets.listing import spread

    return spread(LABELLED, total)[rank::world_size]


def _in_all(compute: Callable[[], Result]) -> Result:
    """Compute something in all processes; if one fails, fail in all.

    Otherwise the others would wait for it at the next exchange.

    Raises:
        UserError: The error of the first process that has one.
    """
    result, problem = None, None
    try:
        result = compute()
    except UserError as error:
        problem = str(error)
    problems = [text for text in all_gather_object(problem) if text]
    if problems:
        raise UserError(problems[0])
    return cast(Result, result)


@contextmanager
def _frozen(runner: Runner) -> Iterator[nn.Module]:
    """Yield the backbone in eval mode, with the buffers that are saved.

    Without SyncBN, each process has batch norm statistics of its own.
    Checkpoints have those of the first process, so all processes evaluate with
    these, and get their own back afterwards.
    """
    from pixcon_mm.evaluation.backbones import FrozenBackbone
    from pixcon_mm.evaluation.dilation import stride_of

    net = validated_model(runner).backbone
    numbers = unwrap(runner.model).data_preprocessor

    def read(images: torch.Tensor) -> torch.Tensor:
        # net(...) may be compiled, for the shapes of training.
        maps = net.forward(images)
        return maps[-1] if isinstance(maps, list | tuple) else maps

    own = [(buffer, buffer.clone()) for buffer in net.buffers()]
    for buffer, _ in own:
        broadcast(buffer)
    try:
        with torch.no_grad(), eval_mode(net):
            device = next(net.parameters()).device
            stride, channels = stride_of(read, device)
            backbone = FrozenBackbone(
                net,
                read,
                mean=tuple(numbers.mean.flatten().tolist()),
                std=tuple(numbers.std.flatten().tolist()),
                bgr=not numbers._channel_conversion,
                stride=stride,
                channels=channels,
            ).to(device)
            yield backbone
    finally:
        for buffer, value in own:
            buffer.copy_(value)


def is_due(hook: Hook, runner: Runner) -> bool:
    """Check if an epoch that ends is the last, or one of the interval."""
    return hook.every_n_epochs(
        runner, hook.interval
    ) or hook.is_last_train_epoch(runner)


def sample_images(runner: Runner, count: int) -> list[Path]:
    """Sample images of the training set, the same in every run and process.

    Damaged ones are left out, as in training, and named on stderr.

    Args:
        runner (Runner): It counts epochs, and the samples of its training set
            have ``img_path``.
        count (int): Number of images, at most.

    Raises:
        UserError: If the run counts iterations, or if its data set has no
            paths or no readable image.
    """
    from pixcon_mm.datasets.loading import readable_images

    if not isinstance(runner.train_loop, EpochBasedTrainLoop):
        raise UserError(
            'DenseProbeHook and MatchPictureHook count epochs, and this run '
            'counts iterations: leave these hooks out.'
        )
    dataset = runner.train_dataloader.dataset
    if not hasattr(dataset, 'get_data_info'):
        raise UserError(
            'DenseProbeHook and MatchPictureHook read the images of the '
            f'training set, and a {type(dataset).__name__} does not name '
            'them: leave these hooks out.'
        )
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(dataset), generator=generator).tolist()
    paths = (Path(dataset.get_data_info(i)['img_path']) for i in order)
    return readable_images(paths, count)
