"""Tests of dense nearest neighbours, against a slow version."""

import pytest
import torch
import torch.nn.functional as F

from pixcon_mm.evaluation import nearest_neighbors
from pixcon_mm.evaluation.dense_data import DenseData
from pixcon_mm.evaluation.features import feature_batches
from pixcon_mm.evaluation.metrics import (
    IGNORE,
    confusion_matrix,
    segmentation_metrics,
)
from pixcon_mm.evaluation.nearest_neighbors import (
    Memory,
    build_memory,
    cell_labels,
    nearest_labels,
    segment,
)
from tests.test_evaluation.trees import make_voc


def slow_labels(queries, memory, k, temperature):
    rows = []
    for query in queries:
        similarity = memory.features @ query
        order = similarity.argsort(descending=True)[:k]
        weights = torch.exp(similarity[order].double() / temperature)
        shares = (weights[:, None] * memory.labels[order]).sum(dim=0)
        rows.append(shares / weights.sum())
    return torch.stack(rows).float()


@pytest.mark.parametrize(('k', 'keys'), [(1, 50), (5, 7), (30, 8), (99, 64)])
def test_nearest_neighbours_equal_a_slow_version(k, keys, monkeypatch):
    monkeypatch.setattr(nearest_neighbors, 'KEYS', keys)
    monkeypatch.setattr(nearest_neighbors, 'QUERIES', 6)
    features = F.normalize(torch.randn(50, 8), dim=1)
    memory = Memory(features, torch.rand(50, 3).softmax(dim=1))
    queries = F.normalize(torch.randn(20, 8), dim=1)
    torch.testing.assert_close(
        nearest_labels(queries, memory, k, 0.1),
        slow_labels(queries, memory, k, 0.1),
    )


def test_cell_labels_equal_a_count_of_pixels():
    mask = torch.randint(3, (10, 15))
    mask[mask == 2] = IGNORE
    shares, labelled = cell_labels(mask, (2, 4), 2)
    # 15 columns in 4 cells: a pixel belongs to the cell of its left edge.
    edges = [0, 4, 8, 12, 15]
    for y in range(2):
        for x in range(4):
            cell = mask[5 * y : 5 * y + 5, edges[x] : edges[x + 1]]
            known = cell[cell != IGNORE]
            index = 4 * y + x
            assert labelled[index] == pytest.approx(len(known) / cell.numel())
            for label in range(2):
                expected = (known == label).float().mean()
                assert shares[index, label] == pytest.approx(expected)


class Colours(torch.nn.Module):
    """Mean colour of each 16 x 16 cell, as a backbone of stride 16."""

    stride, channels = 16, 3

    def __init__(self):
        super().__init__()
        self.register_buffer('mean', torch.full((3, 1, 1), 100.0))

    def forward(self, images):
        return F.avg_pool2d(images.float() - self.mean, 16)


def test_memory_holds_labelled_cells_of_every_image(tmp_path):
    data = DenseData(make_voc(tmp_path), 'train', (64, 96))
    every = build_memory(Colours(), data, [0, 1, 2, 3], None)
    assert every.features.shape == (4 * 24, 3)
    torch.testing.assert_close(every.features.norm(dim=1), torch.ones(4 * 24))
    maps = torch.cat(
        [maps for maps, _ in feature_batches(Colours(), data, range(4))]
    )
    cells = F.normalize(maps.flatten(2).transpose(1, 2).flatten(0, 1), dim=1)
    some = build_memory(Colours(), data, [0, 1, 2, 3], 10, seed=1)
    again = build_memory(Colours(), data, [0, 1, 2, 3], 10, seed=1)
    assert torch.equal(some.features, again.features)
    distance = torch.cdist(some.features, cells)
    assert distance.amin(dim=1).max() < 1e-3
    # Three each of the first two images, two each of the others.
    assert (distance.argmin(dim=1) // 24).tolist() == [
        *(0, 0, 0, 1, 1, 1, 2, 2, 3, 3)
    ]
    # A rank that has no images, when there are more processes than images.
    for size in (10, None):
        none = build_memory(Colours(), data, [], size)
        assert (none.features.shape, none.labels.shape) == ((0, 3), (0, 21))
    assert not segment(Colours(), data, [], some).any()


@pytest.mark.parametrize('mask_size', [None, 12])
def test_colours_segment_coloured_classes(mask_size, tmp_path):
    root = make_voc(tmp_path)
    data = DenseData(root, 'train', (64, 96))
    classes = ['background', 'aeroplane', 'bicycle']
    val = DenseData(root, 'val', (64, 96), classes)
    memory = build_memory(Colours(), data, range(4), None)
    memory = Memory(memory.features, memory.labels[:, :3])
    confusion = segment(Colours(), val, range(2), memory, mask_size=mask_size)
    found = segmentation_metrics(confusion, classes)
    # Upsampling moves the edges of blocks by up to half a cell.
    assert found['miou'] > 85
    # The slow version: each image by itself, each step spelled out.
    total = torch.zeros(3, 3, dtype=torch.long)
    for image, mask in val:
        maps = Colours()(image[None])[0]
        rows = F.normalize(maps.flatten(1).T, dim=1)
        shares = slow_labels(rows, memory, 30, 0.02)
        if mask_size:
            size = (mask_size, mask_size)
            mask = F.interpolate(mask[None, None], size, mode='nearest-exact')[
                0, 0
            ]
        scores = shares.T.view(1, 3, 4, 6)
        full = F.interpolate(scores, mask.shape, mode='bilinear')[0]
        total += confusion_matrix(full.argmax(dim=0), mask, 3)
    expected = segmentation_metrics(total, classes)
    assert found['miou'] == pytest.approx(expected['miou'], abs=0.01)
