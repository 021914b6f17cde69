"""Tests of confusion matrices, IoU and the effective rank."""

import math

import pytest
import torch
import torch.nn.functional as F

from pixcon_mm.evaluation.metrics import (
    IGNORE,
    confusion_matrix,
    effective_rank,
    label_map,
    segmentation_metrics,
)


def test_metrics_equal_a_count_of_pixels():
    predicted = torch.randint(3, (7, 9))
    target = torch.randint(3, (7, 9))
    target[0] = IGNORE
    confusion = confusion_matrix(predicted, target, 4)
    found = segmentation_metrics(confusion, 'abcd')
    counts = target != IGNORE
    assert confusion.sum() == counts.sum()
    for index, name in enumerate('abc'):
        is_true = (target == index) & counts
        is_said = (predicted == index) & counts
        both, either = (is_true & is_said).sum(), (is_true | is_said).sum()
        assert found['iou'][name] == pytest.approx(100 * both / either)
        assert found['accuracy'][name] == pytest.approx(
            100 * both / is_true.sum()
        )
    assert found['iou']['d'] is found['accuracy']['d'] is None
    iou = [found['iou'][name] for name in 'abc']
    assert found['miou'] == pytest.approx(sum(iou) / 3)
    right = (predicted == target)[counts].double().mean()
    assert found['pixel_accuracy'] == pytest.approx(100 * right)


def test_label_map_is_the_best_of_all_upsampled_scores():
    scores = torch.randn(40, 3, 4)
    full = F.interpolate(scores[None], (13, 21), mode='bilinear')[0]
    assert torch.equal(label_map(scores, (13, 21)), full.argmax(dim=0))


def test_effective_rank_counts_directions():
    basis = torch.linalg.qr(torch.randn(20, 20))[0]
    for rank in (1, 3, 20):
        rows = torch.randn(rank, rank).svd()[0] @ basis[:rank]
        assert effective_rank(rows) == pytest.approx(rank, rel=1e-4)
    # exp of the entropy of the singular values 3, 1.
    p = torch.tensor([0.75, 0.25], dtype=torch.float64)
    expected = (-p * p.log()).sum().exp().item()
    assert effective_rank(torch.diag(torch.tensor([3.0, 1.0]))) == (
        pytest.approx(expected)
    )
    assert math.isnan(effective_rank(torch.tensor([[math.inf, 0]])))


@pytest.mark.parametrize('shape', [(60, 200), (200, 60)])
def test_few_directions_are_not_drowned_in_rounding(shape):
    rows = torch.randn(shape[0], 3) @ torch.randn(3, shape[1])
    values = torch.linalg.svdvals(rows.double())[:3]
    shares = values / values.sum()
    expected = torch.special.entr(shares).sum().exp().item()
    assert effective_rank(rows) == pytest.approx(expected, rel=4e-6)
