"""Matching of cells between two crops of a photograph.

The known geometry of the crops gives the right match, so that no labels are
needed; docs/evaluation.md, section 2.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import Dataset, Subset

from pixcon_mm.datasets.transforms import (
    TwoViewRandomFlip,
    TwoViewRandomResizedCrop,
)
from pixcon_mm.evaluation.backbones import FrozenBackbone
from pixcon_mm.evaluation.dense_data import read_image
from pixcon_mm.evaluation.features import batches
from pixcon_mm.models.geometry import (
    Geometry,
    cell_centers,
    cell_mask,
    overlap_boxes,
)
from pixcon_mm.models.matching import cell_similarity

AREA = (0.2, 1.0)  # range of a crop's area, as a share of the photograph
NAMES = (
    'recall_at_1',
    'recall_within_1_cell',
    'chance_at_1',
    'chance_within_1_cell',
)


class CropPairs(Dataset):
    """Two overlapping crops of each photograph, the same ones in every run.

    Args:
        paths (Sequence[Path]): Photographs.
        size (int): Side of a crop after resizing, in pixels.
        seed (int): Seed of the crops, together with the photograph's index.
    """

    def __init__(self, paths: Sequence[Path], size: int, seed: int = 0):
        self.paths, self.seed = paths, seed
        self.crop = TwoViewRandomResizedCrop(
            size, area_range=AREA, on_no_overlap='center'
        )
        self.flip = TwoViewRandomFlip()

    def __len__(self) -> int:
        """Return the number of photographs."""
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return views (2, 3, H, W), crop boxes (2, 4) and flips (2, )."""
        image = read_image(self.paths[index])
        with numpy_seeded(self.seed, index):
            results = self.crop(dict(img=image))
            results = self.flip(results)
        views = [torch.from_numpy(v).permute(2, 0, 1) for v in results['img']]
        return (
            torch.stack(views),
            torch.from_numpy(results['crop_boxes']),
            torch.from_numpy(results['flips']),
        )


@contextmanager
def numpy_seeded(*seed: int) -> Iterator[None]:
    """Seed NumPy's global generator, and restore its state at the end."""
    state = np.random.get_state()
    np.random.seed(np.random.SeedSequence(seed).generate_state(4))
    try:
        yield
    finally:
        np.random.set_state(state)


def target_cells(
    geometry: Geometry, grid: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Locate the centres of the first view's cells in the second view.

    Args:
        geometry (Geometry): B pairs of crops.
        grid (tuple[int, int]): Rows and columns of both views' cells.

    Returns:
        tuple[Tensor, Tensor]: Row and column of the second view's cell that
        contains the centre, or of the nearest cell, int64 (B, N, 2), and
        whether the centre lies inside the second view, bool (B, N).

    Example:
        >>> crops = torch.tensor([[[0., 0., 4., 4.], [2., 0., 6., 4.]]])
        >>> flips = torch.tensor([[False, False]])
        >>> target_cells(Geometry(crops, flips), (1, 4))[0][0, :, 1]
        tensor([0, 0, 0, 1])
    """
    centers = cell_centers(geometry, grid)[:, 0]  # (B, N, 2): x, y
    x1, y1, x2, y2 = geometry.crop_boxes[:, 1, :, None].unbind(dim=1)
    across = (centers[..., 0] - x1) / (x2 - x1)
    down = (centers[..., 1] - y1) / (y2 - y1)
    across = torch.where(geometry.flips[:, 1, None], 1 - across, across)
    cells = torch.stack([down * grid[0], across * grid[1]], dim=-1)
    inside = cell_mask(overlap_boxes(geometry)[:, 0], grid)
    # A centre on the edge of the last cell is inside it.
    last = torch.tensor(grid, device=cells.device) - 1
    return cells.floor().long().clamp(min=0).minimum(last), inside


def count_matches(
    similarity: Tensor, geometry: Geometry, grid: tuple[int, int]
) -> Tensor:
    """Count how often the most similar cell is the right one.

    Args:
        similarity (Tensor): Similarity of the first view's N cells (rows) to
            the second view's. Shape (B, N, N).
        geometry (Geometry): B pairs of crops.
        grid (tuple[int, int]): Rows and columns of cells, h * w = N.

    Returns:
        Tensor: Counts over all cells in the overlaps: choices of the right
        cell; choices at most one row and one column away from it; the same
        two numbers expected for random choices; cells. float64, shape (5, ).
    """
    rows, columns = grid
    target, inside = target_cells(geometry, grid)
    target = target[inside]
    chosen = similarity.argmax(dim=2)[inside]
    chosen = torch.stack([chosen // columns, chosen % columns], dim=-1)
    distance = (chosen - target).abs().amax(dim=-1)
    near = torch.ones(len(target), device=target.device)
    for axis, side in enumerate((rows, columns)):
        place = target[:, axis]
        first = (place - 1).clamp(min=0)
        near = near * ((place + 1).clamp(max=side - 1) - first + 1)
    counts = [
        (distance == 0).sum(),
        (distance <= 1).sum(),
        torch.tensor(len(target) / (rows * columns)),
        near.sum() / (rows * columns),
        torch.tensor(len(target)),
    ]
    return torch.stack([count.double().cpu() for count in counts])


def match(
    backbone: FrozenBackbone, pairs: CropPairs | Subset, **loading
) -> Tensor:
    """Match the cells of crop pairs, in both directions.

    Args:
        backbone (FrozenBackbone): The network.
        pairs (CropPairs | Subset): Crops of photographs.
        **loading: Arguments of
            :func:`~pixcon_mm.evaluation.features.batches`.

    Returns:
        Tensor: Counts as :func:`count_matches` returns them.
    """
    device, total = backbone.mean.device, torch.zeros(5, dtype=torch.float64)
    for views, boxes, flips in batches(pairs, **loading):
        geometry = Geometry(boxes.to(device), flips.to(device))
        maps = backbone(views.flatten(0, 1).to(device))
        grid = (maps.shape[2], maps.shape[3])
        maps = maps.flatten(2).unflatten(0, (len(views), 2))
        similarity = cell_similarity(maps[:, 0], maps[:, 1])
        total += count_matches(similarity, geometry, grid)
        total += count_matches(
            similarity.transpose(1, 2), geometry.swapped(), grid
        )
    return total


def summarize(counts: Tensor) -> dict:
    """Turn the counts of :func:`count_matches` into shares of the cells."""
    *matches, cells = counts.tolist()
    shares = [count / max(cells, 1) for count in matches]
    return {**dict(zip(NAMES, shares, strict=True)), 'cells': int(cells)}
