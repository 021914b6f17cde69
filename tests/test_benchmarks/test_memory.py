"""The traced memory against allocators, hand counts and published numbers."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS
from torch import nn

from benchmarks import memory
from benchmarks.fake_cuda import DEVICE, backward, fake_tensors
from benchmarks.memory import (
    Storages,
    empty_batch,
    trace_on,
    trace_step,
)
from tests.test_models import tiny

pytestmark = pytest.mark.skipif(
    not torch.backends.cuda.is_built(), reason='PyTorch built without CUDA'
)
PRETRAIN = Path(__file__).parents[2] / 'configs/pretrain'


def model_config(backend, recipe=None):
    loss = dict(type='QueueInfoNCELoss', temperature=0.2, backend=backend)
    if recipe is None:
        return tiny.model_config(queue_len=4096, head=dict(loss=loss))
    cfg = Config.fromfile(PRETRAIN / recipe).model.to_dict()
    cfg['head']['loss'] = loss
    return dict(cfg, _scope_='mmpretrain')


@pytest.mark.parametrize('call', [torch.Tensor.backward, backward])
def test_counts_two_layers_as_by_hand(call):
    rows, wide, narrow = 1000, 16, 4
    x = torch.randn(rows, 8)
    net = nn.Sequential(
        nn.Linear(8, wide, bias=False),
        nn.ReLU(),
        nn.Linear(wide, narrow, bias=False),
    )
    with Storages('cpu') as storages:
        for tensor in (x, *net.parameters()):
            storages.add(tensor)
        weights = 4 * (8 * wide + wide * narrow)
        assert storages.now == 4 * rows * 8 + weights
        loss = net(x).sum()
        # Kept: x, the hidden rows and the loss. Peak: both sides of the ReLU.
        assert storages.now == 4 * rows * (8 + wide) + weights + 4
        assert storages.peak == 4 * rows * (8 + 2 * wide) + weights
        call(loss)
        # Into the ReLU's backward: its output, its gradient, and the result.
        peak = 4 * rows * (8 + 3 * wide) + weights + 4 * wide * narrow
        assert storages.peak == pytest.approx(peak, abs=16)
        del loss
        assert storages.now == 4 * rows * 8 + 2 * weights


@pytest.mark.parametrize('backend', ['naive', 'auto'])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_fake_cuda_equals_real_tensors(backend, dtype, monkeypatch):
    cfg, data = model_config(backend), empty_batch(8, 96)
    model = MODELS.build(cfg)
    with fake_tensors():
        fake = trace_on(model, data, dtype, DEVICE)
    monkeypatch.setattr(memory, 'backward', torch.Tensor.backward)
    real = trace_on(MODELS.build(cfg), data, dtype, 'cpu')
    assert fake[:3] == pytest.approx(real[:3], rel=1e-3)
    assert fake.static < fake.kept < fake.peak


def test_kept_is_what_the_allocator_holds():
    """PyTorch's profiler hears of every allocation, whoever asks for it."""
    model = tiny.build(queue_len=4096)
    data = empty_batch(8, 96)

    def forward():
        views = model.data_preprocessor(data, training=True)
        return views, sum(model.loss(**views).values())

    # What is allocated once only, is so here.
    forward()
    model._pending.clear()
    with torch.profiler.profile(profile_memory=True, acc_events=True) as prof:
        held = forward()
    events = prof.profiler.kineto_results.events()
    allocated = sum(e.nbytes() for e in events if e.name() == '[memory]')
    del held
    model._pending.clear()
    with Storages('cpu') as storages:
        for tensor in (*model.parameters(), *model.buffers()):
            storages.add(tensor)
        before = storages.now
        held = forward()
    assert storages.now - before == pytest.approx(allocated, rel=1e-3)
    del held


def test_recipe_for_one_gpu_fits_24_gb():
    recipe = 'pixcon_r50_1gpu_coco.py'
    fused = trace_step(model_config('auto', recipe), batch=128)
    assert fused.peak < 20e9
    # The definition keeps one log-probability for each row and queue entry.
    naive = trace_step(model_config('naive', recipe), batch=128)
    logits = 4 * (65536 + 1) * 2 * 128 * (49 + 1)
    assert naive.kept - fused.kept == pytest.approx(logits, rel=0.01)
    # Its backward builds two more like the dense ones: above a 20 GB card.
    dense = logits * 49 / 50
    assert naive.peak - naive.kept == pytest.approx(2 * dense, rel=0.01)
    assert naive.where.startswith('backward')


def test_activations_are_those_of_the_release():
    """15.3 GB before the backward pass, as the reference file has it.

    It counts neither momentum and gradients nor the float views.
    """
    cfg = model_config('naive', 'pixcon_r50_coco.py')
    trace = trace_step(cfg, batch=128)
    trained = 33.7e6 * 4
    views = 2 * 128 * 3 * 224**2 * 4
    assert trace.kept - 2 * trained - views == pytest.approx(15.3e9, rel=0.01)
