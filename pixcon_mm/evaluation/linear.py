"""Linear segmentation of frozen features; docs/evaluation.md, section 3.

Protocol of Ziegler and Asano, Leopart, CVPR 2022, with the differences that
are listed there.
"""

from collections.abc import Iterable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pixcon_mm.evaluation.backbones import FrozenBackbone
from pixcon_mm.evaluation.dense_data import DenseData
from pixcon_mm.evaluation.features import feature_batches
from pixcon_mm.evaluation.metrics import IGNORE, compare, segmentation_metrics
from pixcon_mm.evaluation.training_views import (
    MASK,
    VIEWS,
    TrainingFeatures,
)
from pixcon_mm.progress import with_progress

RATES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
HELD_OUT = 0.1  # share of training images held out to choose the rate


class LinearHeads(nn.Module):
    """Several 1x1 convolutions on the same normalised features.

    Batch norm without parameters brings the features of every method to the
    same scale, so that the same list of rates suits all.

    Args:
        channels (int): Channels D of the features.
        num_classes (int): Number of classes C.
        count (int): Number of heads.
    """

    def __init__(self, channels: int, num_classes: int, count: int):
        super().__init__()
        self.norm = nn.BatchNorm2d(channels, affine=False)
        self.heads = nn.ModuleList(
            nn.Conv2d(channels, num_classes, 1) for _ in range(count)
        )
        for head in self.heads:
            # The problem is convex, so the start does not matter.
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    def forward(self, features: Tensor) -> list[Tensor]:
        """Return the logits of each head, of shape (B, C, h, w)."""
        features = self.norm(features)
        return [head(features) for head in self.heads]


def train_heads(
    backbone: FrozenBackbone,
    data: DenseData,
    indices: Sequence[int],
    rates: Sequence[float] = RATES,
    epochs: int = 25,
    seed: int = 0,
    title: str = '',
    **loading,
) -> LinearHeads:
    """Train a head for each learning rate, all on the same batches.

    SGD with momentum 0.9 and weight decay 1e-4; the rate falls to a tenth
    after four fifths of the epochs. The loss is taken at ``MASK`` x ``MASK``.

    Args:
        backbone (FrozenBackbone): The network.
        data (DenseData): Training images.
        indices (Sequence[int]): Indices of the images to use.
        rates (Sequence[float]): Learning rates.
        epochs (int): Number of passes over the images.
        seed (int): Seed of the order and the crops.
        title (str): Title of a progress bar; no bar if empty.
        **loading: Arguments of
            :class:`~pixcon_mm.evaluation.training_views.TrainingFeatures`.

    Returns:
        LinearHeads: In eval mode, on the device of the backbone.
    """
    with torch.random.fork_rng(devices=[]):
        heads = LinearHeads(backbone.channels, len(data.classes), len(rates))
    heads.to(backbone.mean.device)
    groups = [
        dict(params=head.parameters(), lr=rate)
        for head, rate in zip(heads.heads, rates, strict=True)
    ]
    optimizer = torch.optim.SGD(groups, momentum=0.9, weight_decay=1e-4)
    drops = [max(round(0.8 * epochs), 1)]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, drops)
    samples = TrainingFeatures(
        backbone, data, indices, seed, title=title, **loading
    )
    numbers: Iterable[int] = range(epochs)
    if title and samples.is_kept:
        numbers = with_progress(numbers, epochs, f'{title}, epochs')
    batch = 0
    for epoch in numbers:
        for features, targets in samples.epoch(epoch):
            batch += 1
            # A running mean that begins with the first batch. From 0 and 1, a
            # short training would leave statistics of no features.
            heads.norm.momentum = max(1 / batch, 0.1)
            logits = torch.stack(heads(features), dim=1)
            optimizer.zero_grad()
            logits.backward(loss_gradient(logits, targets))
            optimizer.step()
        schedule.step()
    return heads.eval()


@torch.no_grad()
def loss_gradient(logits: Tensor, targets: Tensor) -> Tensor:
    """Return the gradient of the cross-entropy of several heads.

    The loss of a head is the mean cross-entropy over the labelled pixels of
    the batch, after bilinear upsampling of the logits to the targets' size.
    The gradient of the upsampled logits is softmax minus one-hot. Upsampling
    multiplies the logits by a matrix from each side, and its gradient uses the
    transposed matrices. This code, one image at a time, takes a third of the
    time of autograd, and little memory.

    Args:
        logits (Tensor): Logits of R heads. Shape (B, R, C, h, w).
        targets (Tensor): Classes or ``IGNORE``. Shape (B, H, W).

    Returns:
        Tensor: Same shape as the logits; zeros if no pixel is labelled.
    """
    num_classes, *grid = logits.shape[2:]
    down, across = (
        F.interpolate(torch.eye(cells).to(logits)[None], side, mode='linear')[
            0
        ].T
        for cells, side in zip(grid, targets.shape[1:], strict=True)
    )  # (H, h) and (W, w)
    is_labelled = targets != IGNORE
    gradient = torch.empty_like(logits)
    for image, found in enumerate(logits):
        labels = targets[image].long().where(is_labelled[image], 0)
        one_hot = F.one_hot(labels, num_classes).movedim(2, 0)
        errors = (down @ found @ across.T).softmax(dim=1)
        errors -= one_hot
        errors *= is_labelled[image]
        gradient[image] = down.T @ errors @ across
    return gradient / is_labelled.sum().clamp(min=1)


@torch.no_grad()
def segment(
    backbone: FrozenBackbone,
    heads: LinearHeads,
    data: DenseData,
    indices: Sequence[int],
    mask_size: int | None,
    **loading,
) -> list[Tensor]:
    """Segment images with each head.

    Args:
        backbone (FrozenBackbone): The network.
        heads (LinearHeads): Trained heads.
        data (DenseData): Images with masks.
        indices (Sequence[int]): Indices of the images to use.
        mask_size (int, optional): Side of the square that masks are resized
            to; None compares in the size of the photographs.
        **loading: Arguments of
            :func:`~pixcon_mm.evaluation.features.batches`.

    Returns:
        list[Tensor]: Confusion matrix of each head. Shape (C, C).
    """
    num_classes = len(data.classes)
    total = torch.zeros(len(heads.heads), num_classes, num_classes).long()
    for maps, masks in feature_batches(backbone, data, indices, **loading):
        for confusion, logits in zip(total, heads(maps), strict=True):
            confusion += compare(logits, masks, mask_size)
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
        indices (Sequence[int]): Indices of the training images to use, in
            random order; the last tenth is held out.
        val (DenseData): Validation images.
        tested (Sequence[int]): Indices of the validation images to use.
        epochs (int): Number of epochs of the training.
        rates (Sequence[float]): Learning rates.
        mask_size (int, optional): Side of the masks; see :func:`segment`.
        seed (int): Seed of the training.
        **loading: Arguments of
            :func:`~pixcon_mm.evaluation.features.batches`.

    Returns:
        dict: The metrics of :func:`segmentation_metrics` on the validation
        images, the chosen ``rate``, the held-out mIoU of each rate, and
        settings of the training.
    """
    title = loading.pop('title', '')
    held_out = max(round(HELD_OUT * len(indices)), 1)
    used = indices[:-held_out]
    heads = train_heads(
        backbone, train, used, rates, epochs, seed, title=title, **loading
    )
    found = segment(
        *(backbone, heads, train, indices[-held_out:], MASK), **loading
    )
    miou = [segmentation_metrics(c, train.classes)['miou'] for c in found]
    best = max(range(len(rates)), key=miou.__getitem__)
    heads.heads = heads.heads[best : best + 1]
    (confusion,) = segment(
        *(backbone, heads, val, tested, mask_size), **loading
    )
    return dict(
        train_images=len(used),
        held_out_images=held_out,
        epochs=epochs,
        views=VIEWS,
        rate=rates[best],
        held_out_miou={str(r): m for r, m in zip(rates, miou, strict=True)},
        **segmentation_metrics(confusion, val.classes),
    )
