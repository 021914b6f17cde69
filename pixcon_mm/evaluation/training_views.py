"""Features of random crops of training images, computed once if they fit."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import Dataset

from pixcon_mm.evaluation.backbones import FrozenBackbone
from pixcon_mm.evaluation.dense_data import DenseData
from pixcon_mm.evaluation.features import feature_batches
from pixcon_mm.evaluation.metrics import shrink

VIEWS = 4  # crops per image; the epochs use one after the other
AREA = (0.8, 1.0)  # range of a crop's area, as a share of the image
MASK = 100  # side of the masks, in pixels
CACHE = 4 * 2**30  # bytes; larger sets of features are not kept in memory


class Views(Dataset):
    """Crops of images and their masks, grouped by image, ``VIEWS`` of each.

    Args:
        data (DenseData): Training images.
        indices (Sequence[int]): Indices of the images to use.
        seed (int): Seed of the crops, together with the index of the image.
    """

    def __init__(self, data: DenseData, indices: Sequence[int], seed: int):
        self.data, self.indices, self.seed = data, list(indices), seed

    def __len__(self) -> int:
        """Return the number of crops."""
        return VIEWS * len(self.indices)

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        """Return a crop and its mask; see :func:`random_crop`."""
        place, view = divmod(number, VIEWS)
        index = self.indices[place]
        generator = np.random.default_rng((self.seed, index, view))
        return random_crop(*self.data[index], generator)


def random_crop(
    image: Tensor, mask: Tensor, generator: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Crop the same part of an image and its mask, and mirror both or none.

    Args:
        image (Tensor): Shape (3, H, W).
        mask (Tensor): Classes, in any size. Shape (H0, W0).
        generator (np.random.Generator): Source of the random numbers.

    Returns:
        tuple[Tensor, Tensor]: Image of the same size, float32, and mask of
        ``MASK`` x ``MASK``.
    """
    area, x, y, flip = generator.random(4)
    side = (AREA[0] + area * (AREA[1] - AREA[0])) ** 0.5
    parts = []
    for plane in (image, mask[None]):
        height, width = plane.shape[1:]
        rows, columns = (
            max(round(side * height), 1),
            max(round(side * width), 1),
        )
        top, left = round(y * (height - rows)), round(x * (width - columns))
        part = plane[:, top : top + rows, left : left + columns]
        parts.append(part.flip(2) if flip < 0.5 else part)
    view = F.interpolate(
        parts[0][None].float(), image.shape[1:], mode='bilinear'
    )[0]
    return view, shrink(parts[1][0], MASK)


class TrainingFeatures:
    """Batches of features and masks for training on a frozen backbone.

    If the features of all crops fit into ``CACHE``, they are computed once and
    kept in main memory; otherwise every epoch computes the features of its
    crops. The batches are the same in both cases.

    Args:
        backbone (FrozenBackbone): The network.
        data (DenseData): Training images.
        indices (Sequence[int]): Indices of the images to use.
        seed (int): Seed of the crops and their order.
        batch_size (int): Number of images per batch.
        title (str): Title of progress bars; no bars if empty.
        **loading: Arguments of
            :func:`~pixcon_mm.evaluation.features.batches`.
    """

    def __init__(
        self,
        backbone: FrozenBackbone,
        data: DenseData,
        indices: Sequence[int],
        seed: int = 0,
        batch_size: int = 16,
        title: str = '',
        **loading,
    ):
        self.backbone, self.title = backbone, title
        self.loading = dict(loading, batch_size=batch_size)
        self.views = Views(data, indices, seed)
        self._order = torch.Generator().manual_seed(seed)
        rows, columns = (side // backbone.stride for side in data.size)
        shape = (len(self.views), backbone.channels, rows, columns)
        self.is_kept = 4 * torch.Size(shape).numel() <= CACHE
        if self.is_kept:
            self._features = torch.empty(shape)
            self._masks = torch.empty(
                len(self.views), MASK, MASK, dtype=torch.uint8
            )
            self._fill()

    def _fill(self) -> None:
        done = 0
        for maps, masks in self._compute(range(len(self.views)), 'features'):
            end = done + len(maps)
            self._features[done:end] = maps.cpu()
            self._masks[done:end] = torch.stack(masks)
            done = end

    def _compute(
        self, numbers: Sequence[int], name: str
    ) -> Iterator[tuple[Tensor, list[Tensor]]]:
        title = f'{self.title}, {name}' if self.title else ''
        return feature_batches(
            self.backbone, self.views, numbers, title=title, **self.loading
        )

    def epoch(self, number: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield one crop of each image, in random order.

        Args:
            number (int): Number of the epoch, from 0 on. It chooses the
                crops.

        Yields:
            tuple[Tensor, Tensor]: Features (B, D, h, w) and masks
            (B, ``MASK``, ``MASK``), on the device of the backbone.
        """
        device = self.backbone.mean.device
        count = len(self.views) // VIEWS
        order = torch.randperm(count, generator=self._order)
        numbers = VIEWS * order + number % VIEWS
        if self.is_kept:
            for part in numbers.split(self.loading['batch_size']):
                yield (
                    self._features[part].to(device),
                    self._masks[part].to(device),
                )
        else:
            name = f'epoch {number + 1}'
            for maps, masks in self._compute(numbers.tolist(), name):
                yield maps, torch.stack(masks).to(device)
