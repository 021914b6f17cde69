"""The queue against a plain Python ring."""

import copy

import pytest
import torch
import torch.nn.functional as F

from pixcon_mm.errors import UserError
from pixcon_mm.models import FeatureQueue


def keys(size):
    return F.normalize(torch.randn(size, 4), dim=1)


def test_starts_with_unit_rows():
    queue = FeatureQueue(50, 128)
    torch.testing.assert_close(queue.features.norm(dim=1), torch.ones(50))
    with pytest.raises(UserError, match='length=0'):
        FeatureQueue(0, 4)


@pytest.mark.parametrize('batches', [[3, 3, 3, 3, 3], [10, 10], [23, 7], [1]])
def test_wraps_with_any_batch_size(batches):
    queue = FeatureQueue(10, 4)
    ring, at = queue.features.clone(), 0
    for size in batches:
        added = keys(size)
        queue.enqueue(added)
        for key in added:
            ring[at % 10] = key
            at += 1
        assert torch.equal(queue.features, ring)
        assert queue.count == at


def test_position_is_restored_with_the_features():
    queue, other = FeatureQueue(10, 4), FeatureQueue(10, 4)
    queue.enqueue(keys(7))
    other.load_state_dict(copy.deepcopy(queue.state_dict()))
    added = keys(5)
    queue.enqueue(added)
    other.enqueue(added)
    assert torch.equal(queue.features, other.features)
    assert other.count == 12
