"""Tests of clusters as segments, against known answers."""

from itertools import permutations, product

import numpy as np
import pytest
import torch

from pixcon_mm.errors import UserError
from pixcon_mm.evaluation.clustering import (
    cluster,
    count_pairs,
    fit_pca,
    match_by_iou,
    project,
)
from pixcon_mm.evaluation.dense_data import DenseData
from pixcon_mm.evaluation.features import feature_batches
from pixcon_mm.evaluation.metrics import IGNORE, segmentation_metrics
from tests.test_evaluation.test_nearest_neighbors import Colours
from tests.test_evaluation.trees import make_voc


def test_assignment_is_the_best_of_all():
    counts = torch.randint(50, (5, 5))
    found = segmentation_metrics(match_by_iou(counts), 'abcde')['miou']
    every = [
        segmentation_metrics(counts[list(order)].T, 'abcde')['miou']
        for order in permutations(range(5))
    ]
    assert found == pytest.approx(max(every))


@pytest.mark.parametrize(('height', 'width'), [(12, 10), (11, 13), (2, 4)])
def test_counts_equal_a_loop_over_pixels(height, width):
    ids = torch.randint(4, (2, 3, 5))
    masks = torch.randint(3, (2, height, width)).to(torch.uint8)
    masks[0, 0] = IGNORE
    expected = torch.zeros(4, 3).long()
    for image, y, x in product(range(2), range(height), range(width)):
        # The cell that contains the pixel's centre.
        cell = int((y + 0.5) / height * 3), int((x + 0.5) / width * 5)
        label = masks[image, y, x].item()
        if label != IGNORE:
            expected[ids[(image, *cell)], label] += 1
    assert torch.equal(count_pairs(ids, masks, 4, 3), expected)


def test_pca_is_that_of_the_standardised_cells(tmp_path):
    data = DenseData(make_voc(tmp_path), 'train', (64, 96))
    pca = fit_pca(Colours(), data, range(4), dims=2, batch_size=3)
    cells, masks = project(Colours(), data, range(4), pca)
    assert cells.shape == (4, 4, 6, 2)
    assert masks.shape == (4, 100, 100)
    maps = torch.cat(
        [m for m, _ in feature_batches(Colours(), data, range(4))]
    )
    rows = maps.movedim(1, 3).reshape(-1, 3).double()
    rows = (rows - rows.mean(0)) / rows.std(0, correction=0)
    basis = torch.linalg.svd(rows, full_matrices=False)[2][:2]
    expected, found = rows @ basis.T, torch.from_numpy(cells).reshape(-1, 2)
    # The signs of components are arbitrary.
    torch.testing.assert_close(
        found.abs().double(), expected.abs(), rtol=1e-3, atol=1e-3
    )


def test_k_means_finds_separate_groups():
    pytest.importorskip('faiss', reason='needs the extra "evaluation"')
    rng = np.random.default_rng(0)
    truth = rng.integers(4, size=(3, 8, 8))
    centres = 10 * np.eye(4, 6)
    cells = (centres[truth] + rng.normal(size=(3, 8, 8, 6))).astype('f')
    ids = cluster(cells, 4, seed=1)
    counts = count_pairs(ids, torch.from_numpy(truth).byte(), 4, 4)
    assert segmentation_metrics(match_by_iou(counts), 'abcd')['miou'] == 100
    assert torch.equal(cluster(cells, 4, seed=1), ids)
    with pytest.raises(UserError, match='only 192 cells'):
        cluster(cells, 500, seed=0)
