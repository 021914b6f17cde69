"""Views, matches and weights of a pre-training model, as arrays.

The code that training uses computes them: the pipeline, the preprocessor,
both encoders and the matching of the head, here in evaluation mode.
"""

import os
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, default_collate
from mmengine.registry import MODELS, DefaultScope
from torch import Tensor, nn

from pixcon_mm.cli import quiet
from pixcon_mm.datasets.loading import BrokenImageError
from pixcon_mm.engine.model_state import eval_mode
from pixcon_mm.errors import UserError
from pixcon_mm.evaluation.correspondence import count_matches, numpy_seeded
from pixcon_mm.evaluation.dense_data import read_image
from pixcon_mm.files import as_line
from pixcon_mm.models.geometry import Geometry, cell_centers, overlap_boxes
from pixcon_mm.models.matching import cell_similarity, match_by_coordinate

TRIES = 20  # attempts to find two crops of a photograph that overlap


class MatchedViews(NamedTuple):
    """Two views of a photograph, with N cells each, in the order of rows.

    In ``cosine`` and the matches, view 1 is the query and view 2 the key. The
    last three arrays have a row for each view as query, with the other view
    as key.
    """

    photograph: np.ndarray  # RGB, uint8 (H, W, 3)
    views: np.ndarray  # inputs of the model, RGB, uint8 (2, h, w, 3)
    boxes: np.ndarray  # x1, y1, x2, y2 of the crops, in pixels (2, 4)
    overlap: np.ndarray  # box of the overlap, as shares of a view (2, 4)
    grid: tuple[int, int]  # rows and columns of cells
    cosine: np.ndarray  # of view 1's cells to view 2's (N, N)
    # Number of each cell's match (N, ) by both rules. Those of the head's own
    # rule are its matches in training, where cells of weight 0 have none.
    by_similarity: np.ndarray
    by_coordinate: np.ndarray  # valid inside the overlap
    # Cells in the overlap that by_similarity matches within 1 cell of the same
    # place, the number that random matches are expected to have, all of them.
    near: tuple[int, float, int]
    in_overlap: np.ndarray  # bool (2, N)
    best: np.ndarray  # cosine of each cell with its best match (2, N)
    weight: np.ndarray  # weight of each cell in the dense loss (2, N)


def build_model(cfg: Config, seed: int) -> tuple[nn.Module, Compose]:
    """Build a pre-training model with random weights, and its pipeline.

    Args:
        cfg (Config): Config of a pre-training. The framework of its
            ``default_scope`` must have been imported.
        seed (int): Seed of the weights.

    Raises:
        UserError: If the config has no training pipeline.
    """
    try:
        steps = cfg.train_dataloader.dataset.pipeline
    except AttributeError as error:
        raise UserError(
            f'{cfg.filename} has no train_dataloader.dataset.pipeline: name '
            'the config of a pre-training.'
        ) from error
    with (
        quiet(),
        DefaultScope.overwrite_default_scope(cfg.default_scope),
        torch.random.fork_rng(devices=[]),
    ):
        torch.manual_seed(seed)
        model = MODELS.build(cfg.model)
        model.init_weights()
        return model, Compose(steps)


def make_views(pipeline: Callable, path: str | Path, seed: int) -> dict:
    """Run a training pipeline on a photograph, with a fixed seed.

    The state of NumPy's generator is restored.

    Args:
        pipeline (Callable): From ``dict(img_path=...)`` to a sample.
        path (str | Path): The photograph.
        seed (int): Seed of the views, together with the name of the file.

    Raises:
        UserError: If the file is damaged, or if the crops never overlap.
    """
    name = zlib.crc32(os.fsencode(Path(path).name))
    for attempt in range(TRIES):
        try:
            with numpy_seeded(seed, name, attempt):
                sample = pipeline(dict(img_path=str(path)))
        except BrokenImageError as error:
            raise UserError(f'{error}: leave it out.') from error
        if sample is not None:
            return sample
    raise UserError(
        f'{as_line(path)}: two crops did not overlap in any of {TRIES} '
        'attempts, which happens with very long and narrow images: leave it '
        'out.'
    )


def shown_views(preprocessor: nn.Module, inputs: list[Tensor]) -> np.ndarray:
    """Undo a preprocessor's normalisation of views.

    Args:
        preprocessor (nn.Module): Data preprocessor of the model.
        inputs (list[Tensor]): Its output: V views of shape (B, 3, H, W).

    Returns:
        np.ndarray: RGB, uint8. Shape (B, V, H, W, 3).
    """
    images = torch.stack(inputs, dim=1)
    if preprocessor._enable_normalize:
        images = images * preprocessor.std + preprocessor.mean
    if not preprocessor._channel_conversion:
        images = images.flip(2)
    pixels = images.round().clamp(0, 255).byte()
    return pixels.permute(0, 1, 3, 4, 2).cpu().numpy()


@torch.no_grad()
def match_photographs(
    model: nn.Module, pipeline: Callable, paths: list[Path], seed: int = 0
) -> list[MatchedViews]:
    """Make two views of each photograph; match and weight their cells.

    Neither the model nor a random generator is changed.

    Args:
        model (PixCon): The model, not wrapped.
        pipeline (Callable): Its training pipeline.
        paths (list[Path]): Photographs, which form one batch.
        seed (int): Seed of :func:`make_views`.
    """
    samples = [make_views(pipeline, path, seed) for path in paths]
    with eval_mode(model):
        batch = model.data_preprocessor(default_collate(samples), True)
        views, geometry = batch['inputs'], batch['geometry']
        pairs = model.encode(views, geometry)
        weighed = [model.head.match(pair) for pair in pairs]
    cosines = [
        cell_similarity(p.query.backbone, p.key.backbone) for p in pairs
    ]
    key_cells = dict(similarity=cosines[0].argmax(dim=2))
    both = dict(
        in_overlap=[match.in_overlap for match in weighed],
        best=[cosine.amax(dim=2) for cosine in cosines],
        weight=[match.weight for match in weighed],
    )
    pixels, overlap = (
        shown_views(model.data_preprocessor, views),
        overlap_boxes(geometry),
    )
    grid = pairs[0].query.grid
    centers = cell_centers(geometry, grid)
    _, nearest = match_by_coordinate(centers[:, 0], centers[:, 1])
    key_cells['coordinate'] = nearest
    key_cells[model.head.matching] = weighed[0].key_cell

    def near(i: int) -> tuple[int, float, int]:
        one = Geometry(*(part[i : i + 1] for part in geometry))
        counts = count_matches(cosines[0][i : i + 1], one, grid)
        return int(counts[1]), float(counts[3]), int(counts[4])

    return [
        MatchedViews(
            read_image(path, upright=False),  # as the boxes of the crops
            pixels[i],
            geometry.crop_boxes[i].cpu().numpy(),
            overlap[i].cpu().numpy(),
            grid,
            cosines[0][i].cpu().numpy(),
            key_cells['similarity'][i].cpu().numpy(),
            key_cells['coordinate'][i].cpu().numpy(),
            near(i),
            **{
                name: torch.stack([part[i] for part in parts]).cpu().numpy()
                for name, parts in both.items()
            },
        )
        for i, path in enumerate(paths)
    ]
