"""Linear segmentation of frozen features; docs/evaluation.md, section 3.

Protocol of Ziegler and Asano, Leopart, CVPR 2022, with the learning rate
chosen on training images that are held out.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixcon_mm.evaluation.backbones import FrozenBackbone
from pixcon_mm.evaluation.dense_data import DenseData
from pixcon_mm.evaluation.features import batches, collate, feature_batches
from pixcon_mm.evaluation.metrics import (
    IGNORE,
    compare,
    segmentation_metrics,
    shrink,
)

RATES = (0.003, 0.01, 0.03, 0.1, 0.3)
HELD_OUT = 0.1  # share of the training images that choose the rate
MASK = 100  # side of the masks in training, in pixels
AREA = (0.8, 1.0)  # of the random crop, as a share of the image


class LinearHeads(nn.Module):
    """1x1 convolutions for several learning rates, on normalised features.

    Batch norm without parameters brings the features of every method to one
    scale, so that one list of rates serves all.

    Args:
        channels (int): D.
        num_classes (int): C.
        rates (Sequence[float]): One head each.
    """

    def __init__(
        self, channels: int, num_classes: int, rates: Sequence[float]
    ):
        super().__init__()
        self.rates = tuple(rates)
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.heads = nn.ModuleList(
            nn.Conv2d(channels, num_classes, 1) for _ in rates
        )
        for head in self.heads:
            # A convex problem: the start decides nothing.
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def forward(self, features: Tensor) -> list[Tensor]:
        """Return the logits of every head, (B, C, h, w) each."""
        features = self.norm(features)
        return [head(features) for head in self.heads]


def train_heads(
    backbone: FrozenBackbone,
    data: DenseData,
    indices: Sequence[int],
    rates: Sequence[float] = RATES,
    epochs: int = 25,
    seed: int = 0,
    batch_size: int = 16,
    workers: int = 0,
    title: str = '',
) -> LinearHeads:
    """Train a head for each learning rate, all on the same batches.

    SGD with momentum 0.9 and weight decay 1e-4; the rate falls to a tenth
    after four fifths of the epochs. Images are cropped and mirrored at
    random; the loss is taken at ``MASK`` x ``MASK``.

    Args:
        backbone (FrozenBackbone): The network.
        data (DenseData): Training images.
        indices (Sequence[int]): Which of them.
        rates (Sequence[float]): Learning rates.
        epochs (int): Passes over them.
        seed (int): Of the order and the crops.
        batch_size (int): Images a batch.
        workers (int): Processes that read images.
        title (str): Of a progress bar; none if empty.

    Returns:
        LinearHeads: In eval mode, on the device of the backbone.
    """
    device = backbone.mean.device
    with torch.random.fork_rng(devices=[]):
        heads = LinearHeads(backbone.channels, len(data.classes), rates)
    heads.to(device)
    groups = [
        dict(params=head.parameters(), lr=rate)
        for head, rate in zip(heads.heads, rates, strict=True)
    ]
    optimizer = torch.optim.SGD(groups, momentum=0.9, weight_decay=1e-4)
    drops = [max(round(0.8 * epochs), 1)]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, drops)
    generator = torch.Generator().manual_seed(seed)
    for epoch in range(epochs):
        order = torch.randperm(len(indices), generator=generator).tolist()
        part = torch.utils.data.Subset(data, [indices[i] for i in order])
        name = f'{title}, epoch {epoch + 1}/{epochs}' if title else ''
        for images, masks in batches(
            part, batch_size, workers, name, collate_fn=collate
        ):
            views = [
                random_crop(image, mask, generator)
                for image, mask in zip(images, masks, strict=True)
            ]
            inputs, targets = map(torch.stack, zip(*views, strict=True))
            features = backbone(inputs.to(device))
            loss = sum(
                pixel_loss(logits, targets.to(device))
                for logits in heads(features)
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        schedule.step()
    return heads.eval()


def random_crop(
    image: Tensor, mask: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Crop the same part of an image and its mask, and mirror both or none.

    Args:
        image (Tensor): Shape (3, H, W).
        mask (Tensor): Of any size. Shape (H0, W0).
        generator (torch.Generator): Of the random numbers.

    Returns:
        tuple[Tensor, Tensor]: Image of the same size, float32, and mask of
        ``MASK`` x ``MASK``.
    """
    area, x, y, flip = torch.rand(4, generator=generator).tolist()
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


def pixel_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the mean cross-entropy of labelled pixels; 0 without any.

    Args:
        logits (Tensor): Upsampled to the targets. Shape (B, C, h, w).
        targets (Tensor): Classes or ``IGNORE``. Shape (B, H, W).
    """
    logits = F.interpolate(logits, targets.shape[1:], mode='bilinear')
    total = F.cross_entropy(
        logits, targets.long(), ignore_index=IGNORE, reduction='sum'
    )
    return total / (targets != IGNORE).sum().clamp(min=1)


@torch.no_grad()
def segment(
    backbone: FrozenBackbone,
    heads: LinearHeads,
    data: DenseData,
    indices: Sequence[int],
    mask_size: int | None,
    only: int | None = None,
    **loading,
) -> list[Tensor]:
    """Segment images with each head, or with one.

    Args:
        backbone (FrozenBackbone): The network.
        heads (LinearHeads): Trained.
        data (DenseData): Images.
        indices (Sequence[int]): Which of them.
        mask_size (int, optional): Side of the masks that are compared; None
            for that of the photographs.
        only (int, optional): Index of the one head.
        **loading: For :func:`~pixcon_mm.evaluation.features.batches`.

    Returns:
        list[Tensor]: Confusion matrix of each head. Shape (C, C).
    """
    num_classes = len(data.classes)
    chosen = range(len(heads.rates)) if only is None else [only]
    total = torch.zeros(len(chosen), num_classes, num_classes).long()
    for maps, masks in feature_batches(backbone, data, indices, **loading):
        logits = heads(maps)
        for place, head in enumerate(chosen):
            total[place] += compare(logits[head], masks, mask_size)
    return list(total)


def evaluate(
    backbone: FrozenBackbone,
    train: DenseData,
    indices: Sequence[int],
    val: DenseData,
    tested: Sequence[int],
    epochs: int = 25,
    rates: Sequence[float] = RATES,
    mask_size: int | None = None,
    seed: int = 0,
    **loading,
) -> dict:
    """Train, choose the rate on held-out training images, and segment.

    Args:
        backbone (FrozenBackbone): The network.
        train (DenseData): Training images.
        indices (Sequence[int]): Which of them, in random order: the last
            tenth chooses the rate.
        val (DenseData): Validation images.
        tested (Sequence[int]): Which of them.
        epochs (int): Of training.
        rates (Sequence[float]): Learning rates.
        mask_size (int, optional): Side of the masks that are compared.
        seed (int): Of the training.
        **loading: For :func:`~pixcon_mm.evaluation.features.batches`.

    Returns:
        dict: As of :func:`segmentation_metrics`, with the chosen ``rate``
        and the held-out mIoU of every rate.
    """
    title = loading.pop('title', '')
    held_out = max(round(HELD_OUT * len(indices)), 1)
    used = indices[:-held_out] or indices
    heads = train_heads(
        backbone, train, used, rates, epochs, seed, title=title, **loading
    )
    found = segment(
        *(backbone, heads, train, indices[-held_out:], MASK), **loading
    )
    miou = [segmentation_metrics(c, train.classes)['miou'] for c in found]
    best = max(range(len(rates)), key=miou.__getitem__)
    (confusion,) = segment(
        *(backbone, heads, val, tested, mask_size, best), **loading
    )
    return dict(
        train_images=len(used),
        held_out_images=held_out,
        epochs=epochs,
        rate=rates[best],
        held_out_miou={str(r): m for r, m in zip(rates, miou, strict=True)},
        **segmentation_metrics(confusion, val.classes),
    )
