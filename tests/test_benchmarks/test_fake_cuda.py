"""The stand-ins for autograd's engine and for autocast."""

import copy

import pytest
import torch

from benchmarks.fake_cuda import autocast, backward, fake_tensors
from pixcon_mm.errors import UserError
from pixcon_mm.models import info_nce
from tests.test_models import tiny


@pytest.mark.parametrize('backend', ['naive', 'chunked'])
@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_backward_is_the_engines_bit_by_bit(backend, dtype):
    head = dict(loss=dict(type='QueueInfoNCELoss', backend=backend))
    models = [tiny.build(head=head)]
    models.append(copy.deepcopy(models[0]))
    calls = (torch.Tensor.backward, backward)
    for model, call in zip(models, calls, strict=True):
        for _ in range(2):
            with autocast('cpu', dtype):
                data = model.data_preprocessor(tiny.batch(), training=True)
                loss = sum(model.loss(**data).values())
            call(loss)
    theirs, ours = (dict(model.named_parameters()) for model in models)
    assert any(p.grad is not None for p in theirs.values())
    for name, parameter in theirs.items():
        if parameter.grad is not None:
            assert torch.equal(parameter.grad, ours[name].grad), name


def test_autocast_is_pytorchs():
    rows = torch.ones(2, 2)
    with autocast('cpu', torch.bfloat16):
        assert (rows @ rows).dtype == torch.bfloat16
        with autocast('cpu', torch.float32):
            assert (rows @ rows).dtype == torch.float32
    assert not torch.is_autocast_enabled('cpu')
    assert (rows @ rows).dtype == torch.float32


@pytest.mark.skipif(
    not torch.backends.cuda.is_built(), reason='PyTorch built without CUDA'
)
def test_kernels_that_never_ran_are_forgotten():
    before = dict(info_nce._FUSED)
    with fake_tensors():
        rows = torch.ones(2, 24, device='cuda:0', dtype=torch.float16)
        assert info_nce.has_fused_kernel(rows, torch.float16)
        assert before != info_nce._FUSED
    assert before == info_nce._FUSED


def test_a_build_without_cuda_is_told_apart(monkeypatch):
    monkeypatch.setattr(torch.backends.cuda, 'is_built', lambda: False)
    with pytest.raises(UserError, match='built without CUDA'), fake_tensors():
        pass
