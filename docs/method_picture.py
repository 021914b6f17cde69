#!/usr/bin/env python
"""Draw method_picture.jpg: two crops, matches of their cells, and weights.

No weights of the main recipe exist yet. The features are those of eight
untrained networks side by side, which match colours and textures. Borders are
mirrored, because padding with zeros would show in the features.
"""

import logging
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from mmpretrain.registry import MODELS
from skimage.data import coffee
from torch import Tensor, nn

import pixcon_mm.models  # noqa: F401, before MMPretrain's models
from pixcon_mm.models.geometry import Geometry, cell_mask, overlap_boxes
from pixcon_mm.models.matching import (
    cell_similarity,
    match_by_similarity,
    semantic_weights,
)
from pixcon_mm.visualization.panels import (
    COLORS,
    HEAT,
    cell_center,
    draw_box,
    draw_heat,
    draw_match,
    draw_overlap,
    show,
)

OUT = Path(__file__).with_name('method_picture.jpg')
# Query and key: x1, y1, x2, y2 in the photograph of 600 x 400 pixels.
CROPS = ((20, 60, 320, 360), (180, 90, 490, 400))
SIZE, GRID = 224, (7, 7)
WIDTH, HEIGHT = 12, 3.4  # inches, at 100 pixels


def cut_views(photograph: np.ndarray) -> Tensor:
    """Cut both crops out of a photograph. Shape (2, 3, SIZE, SIZE)."""
    pixels = torch.from_numpy(photograph).permute(2, 0, 1)[None]
    views = [
        F.interpolate(
            pixels[..., y1:y2, x1:x2],
            (SIZE, SIZE),
            mode='bilinear',
            antialias=True,
        )
        for x1, y1, x2, y2 in CROPS
    ]
    return torch.cat(views)


def encode(views: Tensor, seed: int) -> Tensor:
    """Return unit features of an untrained ResNet-18. Shape (2, 512, 49)."""
    torch.manual_seed(seed)
    backbone = MODELS.build(
        dict(type='ResNet', depth=18, zero_init_residual=False)
    )
    backbone.init_weights()
    backbone.eval()
    for name, layer in list(backbone.named_modules()):
        if isinstance(layer, nn.Conv2d) and layer.padding != (0, 0):
            border = nn.ReflectionPad2d(layer.padding[0])
            layer.padding = (0, 0)
            backbone.set_submodule(name, nn.Sequential(border, layer))
    mean = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
    std = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)
    with torch.no_grad():
        features = backbone((views - mean) / std)[0].flatten(2)
    return F.normalize(features, dim=1)


def choose_cells(weight: Tensor, mask: Tensor) -> list[int]:
    """Choose cells to draw: in the overlap, of high and of low weight."""
    inside = mask.nonzero().flatten().tolist()
    outside = weight.masked_fill(mask, torch.nan).argsort().tolist()
    outside = [cell for cell in outside if not mask[cell]]
    return [*inside[1::5], *outside[:2], *outside[-4:]]


def main() -> None:
    """Match, weigh and draw."""
    photograph = coffee()
    views = cut_views(photograph)
    logging.disable(logging.INFO)  # MMEngine lists how each weight starts
    features = torch.cat([encode(views, seed) for seed in range(8)], dim=1)
    query, key = features[:, None]
    similarity, index = match_by_similarity(cell_similarity(query, key))
    crops = torch.tensor([CROPS], dtype=torch.float)
    flips = torch.zeros(1, 2, dtype=torch.bool)
    overlap = overlap_boxes(Geometry(crops, flips))[:, 0]
    mask = cell_mask(overlap, GRID)
    weight = semantic_weights(similarity, mask)[0]

    figure = Figure(figsize=(WIDTH, HEIGHT))

    def axes(left: float, bottom: float, width: float, height: float):
        inches = np.array([left, bottom, width, height])
        return figure.add_axes(inches / ([WIDTH, HEIGHT] * 2))

    photo = axes(0.08, 0.6, 3.36, 2.24)
    first, second, heat = (
        axes(left, 0.42, 2.6, 2.6) for left in (3.64, 6.44, 9.28)
    )
    images = views.permute(0, 2, 3, 1).numpy()
    show(photo, photograph, 'photograph, two crops')
    show(first, images[0], 'query', COLORS[0])
    show(second, images[1], 'key', COLORS[1])
    draw_heat(heat, images[0], weight.view(GRID))
    heat.set_title('weights of the query', color=COLORS[0])
    heat.spines[:].set(color=COLORS[0], linewidth=3)
    for color, box in zip(COLORS, CROPS, strict=True):
        draw_box(photo, box, ec=color, lw=3.5)
    for panel in (first, heat):
        draw_overlap(panel, images[0], overlap[0])
    for cell in choose_cells(weight, mask[0]):
        ends = [
            cell_center(number, GRID, (SIZE, SIZE))
            for number in (cell, index[0, cell])
        ]
        draw_match(first, second, ends, HEAT(weight[cell].item()))
    bar = axes(9.28, 0.2, 2.6, 0.12)
    bar.imshow(np.linspace(0, 1, 256)[None], cmap=HEAT, aspect='auto')
    bar.set(xticks=[], yticks=[])
    figure.text(9.2 / WIDTH, 0.26 / HEIGHT, '0', ha='right', va='center')
    figure.text(11.9 / WIDTH, 0.26 / HEIGHT, '1', va='center')
    figure.savefig(OUT, dpi=100, pil_kwargs=dict(quality=92))


if __name__ == '__main__':
    main()
