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


@pytest.mark.parametrize('batches', [[3, 3, 3, 3, 3], [10, 10], [23, 7], [1]])
def test_wraps_with_any_batch_size(batches):
    """Queue 10, batch 3: no divisibility is asked for."""
    queue = FeatureQueue(10, 4)
    ring, at = queue.features.clone(), 0
    for size in batches:
        added = keys(size)
        queue.enqueue(added)
        for key in added:
            ring[at % 10] = key
            at += 1
        assert torch.equal(queue.features, ring)
        assert queue.count == queue.num_enqueued == at


def test_pointer_is_restored_with_the_features():
    queue = FeatureQueue(10, 4)
    queue.enqueue(keys(7))
    other = FeatureQueue(10, 4)
    other.load_state_dict(copy.deepcopy(queue.state_dict()))
    added = keys(5)
    queue.enqueue(added)
    other.enqueue(added)
    assert torch.equal(queue.features, other.features)
    assert other.count == 12


def test_empty_queue_says_so():
    with pytest.raises(UserError, match='length=0'):
        FeatureQueue(0, 4)


@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16])
def test_rows_in_half_follow_the_queue(dtype):
    queue = FeatureQueue(7, 4)
    assert queue.rows(torch.float32) is queue.features
    before = queue.rows(dtype)
    assert before is queue.rows(dtype)
    for size in (3, 5, 9):  # the second wraps, the third fills it anew
        queue.enqueue(torch.randn(size, 4))
        assert queue.rows(dtype) is before
        assert torch.equal(before, queue.features.to(dtype))


def test_rows_in_half_follow_what_others_write():
    queue, other = FeatureQueue(7, 4), FeatureQueue(7, 4)
    queue.rows(torch.float16)
    queue.load_state_dict(other.state_dict())
    assert torch.equal(queue.rows(torch.float16), other.features.half())
    with torch.no_grad():
        queue.features.mul_(2)
    queue.enqueue(torch.randn(2, 4))
    assert torch.equal(queue.rows(torch.float16), queue.features.half())
