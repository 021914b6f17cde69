#!/usr/bin/env python
"""Draw method_picture.jpg: two crops, their matches, and the cells' weights.

The features are those of a checkpoint of the demo's recipe (`make demo`):

    python docs/method_picture.py work_dirs/demo/epoch_8.pth
"""

import argparse
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.patches import ConnectionPatch, Rectangle
from mmengine.config import Config
from mmpretrain.registry import MODELS
from skimage.data import coffee

import pixcon_mm.models  # noqa: F401, registers the classes
from pixcon_mm.models.geometry import cell_mask, overlap_boxes
from pixcon_mm.models.matching import (
    cell_similarity,
    match_by_similarity,
    semantic_weights,
)

DOCS = Path(__file__).resolve().parent
RECIPE = DOCS.parent / 'configs/pretrain/pixcon_r18_demo.py'
# Query and key: x1, y1, x2, y2 in the photograph of 600 x 400 pixels.
CROPS = ((0, 10, 330, 340), (215, 70, 545, 400))
SIZE = 224
COLORS = ('#2f6fde', '#f28e2b')
HEAT = matplotlib.colormaps['magma']


def matches(views: torch.Tensor, checkpoint: Path):
    """Match and weigh the cells of the first view.

    Args:
        views (Tensor): Query and key, RGB in [0, 255]. Shape (2, 3, H, W).
        checkpoint (Path): Weights of the demo's recipe.

    Returns:
        tuple: Index of each cell's match and its weight, both of shape
        (N, ), overlap mask of shape (N, ), and the grid (H, W).
    """
    cfg = Config.fromfile(RECIPE).model
    model = MODELS.build(cfg).eval()
    saved = torch.load(checkpoint, map_location='cpu', weights_only=True)
    model.load_state_dict(saved['state_dict'])
    norm = cfg.data_preprocessor
    mean, std = (torch.tensor(norm[k])[:, None, None] for k in ('mean', 'std'))
    query, key = (views - mean) / std
    with torch.no_grad():
        (query,) = model.backbone(query[None])
        (key,) = model.key_encoder.backbone(key[None])
    similarity, index = match_by_similarity(
        cell_similarity(query.flatten(2), key.flatten(2))
    )
    grid = tuple(query.shape[2:])
    overlap = overlap_boxes(
        torch.tensor([CROPS], dtype=torch.float), torch.zeros(1, 2).bool()
    )
    mask = cell_mask(overlap[:, 0], grid)
    weight = semantic_weights(similarity, mask)
    return index[0].numpy(), weight[0].numpy(), mask[0].numpy(), grid


def center(cell: int, grid: tuple[int, int]) -> tuple[float, float]:
    """Return x and y of a cell's centre in pixels of a view."""
    row, column = divmod(cell, grid[1])
    return (column + 0.5) * SIZE / grid[1], (row + 0.5) * SIZE / grid[0]


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint', type=Path)
    parser.add_argument(
        '--out', type=Path, default=DOCS / 'method_picture.jpg'
    )
    args = parser.parse_args()
    photograph = coffee()
    pixels = torch.from_numpy(photograph).permute(2, 0, 1).float()
    views = torch.stack(
        [
            F.interpolate(
                pixels[None, :, y1:y2, x1:x2],
                size=(SIZE, SIZE),
                mode='bilinear',
                antialias=True,
            )[0]
            for x1, y1, x2, y2 in CROPS
        ]
    ).clamp(0, 255)
    index, weight, mask, grid = matches(views, args.checkpoint)
    images = views.byte().permute(0, 2, 3, 1).numpy()

    plt.rcParams.update({'font.size': 11, 'font.family': 'DejaVu Sans'})
    figure, axes = plt.subplots(
        1, 4, figsize=(12, 3.7), width_ratios=[1.5, 1, 1, 1]
    )
    for axis in axes:
        axis.set(xticks=[], yticks=[])
        axis.spines[:].set_visible(False)
    photo, query, key, heat = axes
    photo.imshow(photograph)
    photo.set_title('photograph, two random crops')
    for (x1, y1, x2, y2), color in zip(CROPS, COLORS, strict=True):
        photo.add_patch(
            Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, ec=color, lw=3)
        )
    for axis, image, color, title in zip(
        (query, key), images, COLORS, ('query', 'key'), strict=True
    ):
        axis.imshow(image)
        axis.set_title(title, color=color)
        axis.spines[:].set(visible=True, color=color, linewidth=3)
    for cell in range(len(index)):
        row, column = divmod(cell, grid[1])
        if (row + column) % 2:
            continue
        line = ConnectionPatch(
            center(cell, grid), center(index[cell], grid), 'data', 'data',
            axesA=query, axesB=key, color=HEAT(0.15 + 0.8 * weight[cell]),
            lw=1.5, alpha=0.9,
        )
        figure.add_artist(line)
    heat.imshow(images[0])
    heat.imshow(
        weight.reshape(grid), cmap=HEAT, vmin=0, vmax=1, alpha=0.7,
        extent=(0, SIZE, SIZE, 0), interpolation='nearest',
    )
    heat.set_title('weights')
    figure.tight_layout()
    figure.savefig(args.out, dpi=100)
    print(np.round(weight.reshape(grid), 2), mask.reshape(grid).astype(int), index.reshape(grid), sep='\n')


if __name__ == '__main__':
    main()
