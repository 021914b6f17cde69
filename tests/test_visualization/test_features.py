"""Maps of features against slow, obvious versions."""

import numpy as np
import pytest
import torch

from pixcon_mm.errors import UserError
from pixcon_mm.visualization.features import principal_colors, similarity_map


def test_similarity_of_a_cell():
    source, target = torch.randn(6, 3, 4), torch.randn(6, 2, 5)
    found = similarity_map(source, (2, 1), target)
    cell = source[:, 2, 1]
    for row in range(2):
        for column in range(5):
            other = target[:, row, column]
            expected = cell @ other / cell.norm() / other.norm()
            assert found[row, column] == pytest.approx(expected.item(), 1e-4)


def test_principal_colors_are_those_of_an_exact_decomposition():
    """Of features with clearly different variances."""
    scale = torch.tensor([9.0, 5, 3, 0.3, 0.2, 0.1])[:, None, None]
    maps = [scale * torch.randn(6, *size) for size in ((5, 7), (4, 6))]
    state = torch.get_rng_state()
    colors, shares = principal_colors(maps)
    assert torch.equal(torch.get_rng_state(), state)
    assert [c.shape for c in colors] == [(5, 7, 3), (4, 6, 3)]
    rows = np.concatenate([m.flatten(1).T.double().numpy() for m in maps])
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    rows -= rows.mean(axis=0)
    u, s, vh = np.linalg.svd(rows, full_matrices=False)
    np.testing.assert_allclose(shares, (s**2 / (s**2).sum())[:3], rtol=1e-4)
    found = np.concatenate([c.reshape(-1, 3) for c in colors])
    for i in range(3):
        part = u[:, i] * s[i] * np.sign(vh[i, np.abs(vh[i]).argmax()])
        low, high = np.quantile(part, [0.01, 0.99])
        expected = np.clip((part - low) / (high - low), 0, 1)
        np.testing.assert_allclose(found[:, i], expected, atol=1e-3)


def test_too_few_cells_for_three_components():
    with pytest.raises(UserError, match='have 3: take more'):
        principal_colors([torch.randn(6, 1, 2), torch.randn(6, 1, 1)])
