"""ResNet's stem with maxima before ReLU: the same bits as the other order."""

import copy

import pytest
import torch
from mmpretrain.registry import MODELS
from torch import nn

from pixcon_mm.models.stem import MaxPoolReLU, _MaxPool, pool_before_relu
from tests import DEVICES
from tests.test_models import tiny

FORMATS = [torch.contiguous_format, torch.channels_last]


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', [torch.float16, torch.float32])
@pytest.mark.parametrize('memory_format', FORMATS, ids=str)
@pytest.mark.parametrize('size', [(1, 1), (7, 10), (16, 33)])
def test_equals_relu_then_max_pooling(size, memory_format, dtype, device):
    # Few values, so that windows have ties; windows without any above zero.
    maps = torch.randint(-3, 3, (2, 5, *size)).to(device, dtype)
    maps[0, 0] = -maps[0, 0].abs()
    results = []
    for layers in (
        nn.Sequential(nn.ReLU(), nn.MaxPool2d(3, 2, 1)),
        MaxPoolReLU(3, 2, 1),
    ):
        input_maps = maps.clone(memory_format=memory_format).requires_grad_()
        pooled = layers(input_maps)
        weight = torch.arange(pooled.numel(), device=device) % 17 - 8
        pooled.backward(weight.view(pooled.shape).to(dtype))
        with torch.no_grad():
            assert torch.equal(layers(maps), pooled)
        results.append((pooled, input_maps.grad))
    for ours, theirs in zip(*results, strict=True):
        assert torch.equal(ours, theirs)


def test_a_map_too_wide_for_int16():
    maps = torch.randn(1, 1, 4, 20_000, requires_grad=True)
    ours, theirs = _MaxPool.apply(maps, 3, 2, 1), nn.MaxPool2d(3, 2, 1)(maps)
    weight = torch.randn_like(ours)
    assert torch.equal(
        torch.autograd.grad(ours, maps, weight)[0],
        torch.autograd.grad(theirs, maps, weight)[0],
    )


@pytest.mark.parametrize('deep', [False, True])
def test_a_resnet_computes_the_same(deep):
    cfg = dict(tiny.RESNET, deep_stem=deep, _scope_='mmpretrain')
    backbone = MODELS.build(cfg)
    ours = copy.deepcopy(backbone)
    pool_before_relu(ours)
    assert isinstance(ours.maxpool, MaxPoolReLU) != deep
    assert ours.state_dict().keys() == backbone.state_dict().keys()
    images, grads = torch.randn(2, 3, 64, 64), []
    for model in (backbone, ours):
        (out,) = model(images)
        out.square().sum().backward()
        grads.append([p.grad for p in model.parameters()])
    assert all(map(torch.equal, *grads))


def test_other_backbones_stay_as_they_are():
    cfg = dict(type='ResNet_CIFAR', depth=18, _scope_='mmpretrain')
    backbone = MODELS.build(cfg)
    before = repr(backbone)
    pool_before_relu(backbone)
    assert repr(backbone) == before


def test_it_keeps_less_for_the_backward_pass():
    kept = []

    def keep(tensor):
        kept.append(tensor.nbytes)
        return tensor

    maps = torch.randn(2, 8, 32, 32, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        MaxPoolReLU(3, 2, 1)(maps)
    # Steps as int16 and ReLU's result, both of a quarter of the places.
    assert sum(kept) < maps.nbytes / 4 * 1.5 * 1.2
