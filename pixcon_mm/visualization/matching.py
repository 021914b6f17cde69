"""Views, matches and weights of a model in pre-training, as arrays.

All of it is computed by the parts that training uses: the pipeline, the
preprocessor, both encoders, and the head's own matching; in eval mode.
"""

import copy
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
from pixcon_mm.models.geometry import Geometry, overlap_boxes
from pixcon_mm.models.head import pair_views
from pixcon_mm.models.matching import cell_similarity

TRIES = 20  # crops of a photograph, until two overlap


class MatchedViews(NamedTuple):
    """Two views of a photograph; N cells each, row by row.

    View 1 is the query of ``cosine`` and of the matches; the other arrays
    have both views, each as query with the other one as key.
    """

    photograph: np.ndarray  # RGB, uint8 (H, W, 3)
    views: np.ndarray  # as the model gets them, RGB, uint8 (2, h, w, 3)
    boxes: np.ndarray  # x1, y1, x2, y2 of the crops, in pixels (2, 4)
    overlap: np.ndarray  # the same as shares of each view (2, 4)
    grid: tuple[int, int]  # rows and columns of cells
    cosine: np.ndarray  # of view 1's cells to view 2's (N, N)
    by_similarity: np.ndarray  # number of each cell's match (N, )
    by_coordinate: np.ndarray  # likewise; counts in the overlap (N, )
    near: tuple[int, int]  # right within a cell, and cells in the overlap
    in_overlap: np.ndarray  # bool (2, N)
    best: np.ndarray  # cosine of each cell's most similar one (2, N)
    weight: np.ndarray  # in the dense loss (2, N)


def build_model(cfg: Config, seed: int) -> tuple[nn.Module, Compose]:
    """Build the model of a pre-training, random, and its pipeline.

    Args:
        cfg (Config): With ``default_scope``, whose framework is imported.
        seed (int): Of the weights.

    Raises:
        UserError: If the config has no training pipeline.
    """
    try:
        steps = cfg.train_dataloader.dataset.pipeline
    except AttributeError as error:
        raise UserError(
            f'{cfg.filename} has no train_dataloader.dataset.pipeline: name '
            'a config of a pre-training.'
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
    """Run a training pipeline on a photograph, from a seed of its own.

    Args:
        pipeline (Callable): From ``dict(img_path=...)`` to a sample.
        path (str | Path): The photograph.
        seed (int): With the name of the file, it gives the views. NumPy's
            generator is restored.

    Raises:
        UserError: If it is damaged, or no two crops of it overlap.
    """
    name = zlib.crc32(Path(path).name.encode())
    for attempt in range(TRIES):
        try:
            with numpy_seeded(seed, name, attempt):
                sample = pipeline(dict(img_path=str(path)))
        except BrokenImageError as error:
            raise UserError(f'{error}: leave it out.') from error
        if sample is not None:
            return sample
    raise UserError(
        f'{as_line(path)}: in {TRIES} tries no two crops overlapped, as with '
        'very long and narrow images: leave it out.'
    )


def shown_views(preprocessor: nn.Module, inputs: list[Tensor]) -> np.ndarray:
    """Undo the normalisation of what a preprocessor gives.

    Args:
        preprocessor (nn.Module): Of the model.
        inputs (list[Tensor]): V batches of shape (B, 3, H, W).

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
    """Cut two views of each photograph, and match and weigh their cells.

    The model is left as it was, and so are all random generators.

    Args:
        model (PixCon): Not wrapped.
        pipeline (Callable): Its training pipeline.
        paths (list[Path]): Photographs; one batch.
        seed (int): For :func:`make_views`.
    """
    samples = [make_views(pipeline, path, seed) for path in paths]
    with eval_mode(model):
        batch = model.data_preprocessor(default_collate(samples), True)
        views, geometry = batch['inputs'], batch['geometry']
        keys = [model.key_encoder(view) for view in views]
        queries = [model.neck(model.backbone(view)) for view in views]
        pairs = pair_views(queries, keys, geometry)
        weighed = [model.head.match(pair) for pair in pairs]
        matched = []
        for matching in ('similarity', 'coordinate'):
            head = copy.copy(model.head)
            head.matching, head.max_distance = matching, None
            matched.append(head.match(pairs[0]).key_cell)
    cosines = [
        cell_similarity(p.query.backbone, p.key.backbone) for p in pairs
    ]
    both = dict(
        in_overlap=[match.in_overlap for match in weighed],
        best=[cosine.amax(dim=2) for cosine in cosines],
        weight=[match.weight for match in weighed],
    )
    pixels, overlap = (
        shown_views(model.data_preprocessor, views),
        overlap_boxes(geometry),
    )
    grid = queries[0].grid

    def near(i: int) -> tuple[int, int]:
        one = Geometry(*(part[i : i + 1] for part in geometry))
        counts = count_matches(cosines[0][i : i + 1], one, grid)
        return int(counts[1]), int(counts[4])

    return [
        MatchedViews(
            read_image(path),
            pixels[i],
            geometry.crop_boxes[i].cpu().numpy(),
            overlap[i].cpu().numpy(),
            grid,
            cosines[0][i].cpu().numpy(),
            matched[0][i].cpu().numpy(),
            matched[1][i].cpu().numpy(),
            near(i),
            **{
                name: torch.stack([part[i] for part in parts]).cpu().numpy()
                for name, parts in both.items()
            },
        )
        for i, path in enumerate(paths)
    ]
