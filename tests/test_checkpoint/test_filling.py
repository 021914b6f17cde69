"""Weights fill a model completely, or not at all."""

import pytest
import torch
from torchvision.models import resnet18, resnet50, resnet101

from pixcon_mm.checkpoint.filling import fill
from pixcon_mm.errors import UserError


def names_of(model):
    """State dict without the classifier, on no memory."""
    return {n: t for n, t in model.items() if not n.startswith('fc.')}


@pytest.fixture(scope='module')
def resnets():
    with torch.device('meta'):
        models = dict(r18=resnet18(), r50=resnet50(), r101=resnet101())
    return {
        name: {
            n: torch.zeros(t.shape, dtype=t.dtype)
            for n, t in names_of(model.state_dict()).items()
        }
        for name, model in models.items()
    }


def small():
    """A model's tensors and other values for them."""
    model = {
        'conv1.weight': torch.zeros(2, 3),
        'bn1.running_mean': torch.zeros(2),
        'bn1.num_batches_tracked': torch.tensor(7),
    }
    given = {
        'conv1.weight': torch.ones(2, 3, dtype=torch.float16),
        'bn1.running_mean': torch.full((2,), 2.0),
        'bn1.num_batches_tracked': torch.tensor(5),
    }
    return model, given


def test_every_tensor_is_filled_in_place():
    model, given = small()
    weight = model['conv1.weight']
    line = fill(model, given, 'backbone', 'FILE')
    assert line == 'backbone: 3/3 tensors from FILE'
    for name in model:
        assert torch.equal(model[name], given[name].to(model[name].dtype))
    assert weight.dtype == torch.float32
    assert weight.sum() == 6


def test_batch_counts_may_be_missing():
    model, given = small()
    del given['bn1.num_batches_tracked']
    fill(model, given, 'backbone', 'FILE')
    assert model['bn1.num_batches_tracked'] == 0


def test_classifier_and_absent_stage_are_left_out(resnets):
    r50 = resnets['r50']
    first = {n: t for n, t in r50.items() if not n.startswith('layer4')}
    given = {**r50, 'fc.weight': torch.zeros(10, 2048)}
    assert '318/318' in fill(dict(r50), given, 'backbone', 'FILE')
    assert '258/258' in fill(first, given, 'backbone', 'FILE')


@pytest.mark.parametrize(
    ('change', 'problem'),
    [
        (
            lambda given: given.pop('bn1.running_mean'),
            '1 of 3 tensors are not in FILE, the first is bn1.running_mean: '
            'only a part of the weights is for this model',
        ),
        (
            lambda given: given.update({'conv1.weight': torch.ones(3, 2)}),
            '1 of 3 tensors have another shape in FILE, .* conv1.weight',
        ),
        (
            lambda given: given['conv1.weight'].fill_(float('nan')),
            '1 of 3 tensors are not finite in FILE, .* conv1.weight',
        ),
        (
            lambda given: given.update({'conv1.bias': torch.ones(2)}),
            'no place for 1 tensors of FILE, the first is conv1.bias',
        ),
    ],
)
def test_nothing_is_filled_unless_all_is(change, problem):
    model, given = small()
    change(given)
    with pytest.raises(UserError, match=f'backbone: .*{problem}'):
        fill(model, given, 'backbone', 'FILE')
    assert not model['conv1.weight'].any()
    assert model['bn1.num_batches_tracked'] == 7


def test_another_depth_is_named(resnets):
    for given, depth in (('r18', 18), ('r101', 101)):
        with pytest.raises(UserError) as caught:
            fill(resnets['r50'], resnets[given], 'backbone', 'FILE')
        said = f'they are of a ResNet-{depth}, and the model is a ResNet-50'
        assert said in str(caught.value)


def test_deep_stem_is_named(resnets):
    r50 = resnets['r50']
    deep = {n: t for n, t in r50.items() if not n.startswith(('conv1', 'bn1'))}
    deep['stem.0.weight'] = torch.zeros(32, 3, 3, 3)
    with pytest.raises(UserError, match='of a ResNet with a deep stem'):
        fill(r50, deep, 'backbone', 'FILE')
    with pytest.raises(
        UserError, match="model has a deep stem .*type='ResNet'"
    ):
        fill(deep, r50, 'backbone', 'FILE')


def test_foreign_prefix_is_named(resnets):
    given = {f'module.encoder_q.{n}': t for n, t in resnets['r50'].items()}
    with pytest.raises(UserError, match=r'--prefix module.encoder_q\.'):
        fill(resnets['r50'], given, 'backbone', 'FILE')


def test_anything_else(resnets):
    with pytest.raises(UserError, match='they are not of this model'):
        fill(resnets['r18'], {'x': torch.zeros(1)}, 'backbone', 'FILE')
