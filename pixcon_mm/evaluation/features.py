"""Feature maps of a single image, and of the images of a data set."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Subset

from pixcon_mm.errors import UserError
from pixcon_mm.evaluation.backbones import FrozenBackbone
from pixcon_mm.progress import with_progress


def dense_features(
    backbone: FrozenBackbone, image: str | Path | np.ndarray
) -> Tensor:
    """Return the feature map of one image.

    The image is resized to the nearest multiples of the stride.

    Args:
        backbone (FrozenBackbone): From
            :func:`~pixcon_mm.evaluation.backbones.load_backbone`.
        image (str | Path | np.ndarray): A file, or RGB pixels, uint8
            (H, W, 3).

    Returns:
        Tensor: float32, on the device of the backbone. The cells divide the
        image into equal parts. Shape (D, H / stride, W / stride).

    Raises:
        UserError: If the image is damaged.
    """
    # These import MMPretrain, which takes seconds.
    from pixcon_mm.datasets.transforms import resize
    from pixcon_mm.evaluation.dense_data import read_image

    is_file = not isinstance(image, np.ndarray)
    pixels = read_image(Path(image)) if is_file else image
    stride = backbone.stride
    height, width = (
        max(round(side / stride), 1) * stride for side in pixels.shape[:2]
    )
    resized = resize(pixels, (width, height))
    batch = torch.from_numpy(resized).permute(2, 0, 1)[None]
    return backbone(batch.to(backbone.mean.device))[0]


def check_size(
    size: tuple[int, int], stride: int, option: str = '--size'
) -> None:
    """Stop if the sides of an image are not multiples of the stride."""
    if any(side < stride or side % stride for side in size):
        raise UserError(
            f'{option} {" ".join(map(str, size))} (height, width) must be '
            f"multiples of the backbone's stride, {stride}."
        )


def feature_batches(
    backbone: FrozenBackbone,
    dataset: Dataset,
    indices: Sequence[int],
    **loading,
) -> Iterator[tuple[Tensor, list[Tensor]]]:
    """Compute feature maps of some samples of a data set, batch by batch.

    Args:
        backbone (FrozenBackbone): The network.
        dataset (Dataset): Its samples are pairs of an image (3, H, W) and a
            mask.
        indices (Sequence[int]): Indices of the samples, in this order.
        **loading: Arguments of :func:`batches`.

    Yields:
        tuple: Features (B, D, h, w) on the device of the backbone, and B
        masks.
    """
    part = Subset(dataset, indices)
    for images, masks in batches(part, collate_fn=collate, **loading):
        yield backbone(images.to(backbone.mean.device)), masks


def batches(
    dataset: Dataset,
    batch_size: int = 16,
    workers: int = 0,
    title: str = '',
    collate_fn: Callable | None = None,
) -> Iterable:
    """Return the batches of a data set, in its order.

    The states of the global random generators do not change.

    Args:
        dataset (Dataset): The data set.
        batch_size (int): Number of samples per batch.
        workers (int): Number of processes that read images.
        title (str): Title of a progress bar; no bar if empty.
        collate_fn (Callable, optional): From a list of samples to a batch.
    """
    loader = DataLoader(
        dataset,
        batch_size=batch_size,
        num_workers=workers,
        collate_fn=collate_fn,
        generator=torch.Generator(),  # not the global generator
    )
    return with_progress(loader, len(loader), title) if title else loader


def collate(samples: list) -> tuple[Tensor, list[Tensor]]:
    """Stack images, but list masks, as these differ in size."""
    images, masks = zip(*samples, strict=True)
    return torch.stack(images), list(masks)
