"""Continued pre-training and torchvision's weights."""

import copy
from types import SimpleNamespace
from urllib.error import URLError

import pytest
import torch
import torchvision
from mmengine.logging import MessageHub
from mmpretrain.registry import MODELS

from pixcon_mm.checkpoint.pretrained import Pretrained, download, fill_model
from pixcon_mm.engine.hooks.pretrained_hook import PretrainedHook
from pixcon_mm.errors import UserError
from tests import recipes
from tests.commands import sentence_of
from tests.test_checkpoint.test_release import as_release
from tests.test_engine import runs
from tests.test_models import tiny


def start_from(path, model):
    """Fill a model by the hook; returns what it logs."""
    lines = []
    logger = SimpleNamespace(info=lines.append, warning=lines.append)
    runner = SimpleNamespace(model=model, logger=logger, _has_loaded=False)
    runner.message_hub = MessageHub('start_from')
    PretrainedHook(str(path)).before_train(runner)
    return '\n'.join(lines)


def parts(model, *names):
    return {
        name: tensor
        for name, tensor in model.state_dict().items()
        if name.startswith(names)
    }


def assert_same(found, expected):
    torch.testing.assert_close(found, expected, rtol=0, atol=0)


NETWORKS = ('backbone', 'neck', 'head', 'key_encoder')


@pytest.mark.parametrize('layout', [dict, as_release])
def test_continued_pretraining_takes_all_networks(layout):
    model, other = tiny.build(), tiny.disturb(tiny.build())
    queue = model.image_queue.features.clone()
    lines = fill_model(model, Pretrained(layout(other.state_dict()), 'FILE'))
    expected = parts(other, *NETWORKS)
    for name, tensor in parts(model, *NETWORKS).items():
        assert torch.equal(tensor, expected[name]), name
    assert [line.split(':')[0] for line in lines] == [*NETWORKS]
    assert lines[0].startswith('backbone: 120/120 tensors from FILE, under')
    assert torch.equal(model.image_queue.features, queue)


@pytest.mark.parametrize(
    ('recipe', 'momentum', 'filled'),
    [
        ('byol_r50_coco', 'target_net', ['backbone', 'neck', 'head']),
        ('densecl_r50_coco', 'encoder_k', ['backbone', 'neck']),
    ],
)
def test_methods_of_mmpretrain_are_continued(recipe, momentum, filled):
    cfg = recipes.load(f'pretrain/{recipe}').model
    cfg.backbone.depth, cfg.neck.in_channels = 18, 512
    model, other = (MODELS.build(copy.deepcopy(cfg)) for _ in range(2))
    tiny.disturb(other)
    lines = fill_model(model, Pretrained(dict(other.state_dict()), 'FILE'))
    assert [line.split(':')[0] for line in lines] == filled
    assert_same(parts(model, *filled), parts(other, *filled))
    # What their loss() does first.
    network = torch.nn.Sequential(model.backbone, model.neck)
    getattr(model, momentum).update_parameters(network)
    copied = getattr(model, momentum).module.state_dict()
    assert_same(copied, network.state_dict())
    lines = fill_model(model, Pretrained(model.backbone.state_dict(), 'FILE'))
    assert [line[:12] for line in lines[1:]] == [
        f'{part}: random'[:12] for part in filled[1:]
    ]


def test_backbone_alone_starts_the_key_encoder_too():
    model, other = tiny.build(), tiny.disturb(tiny.build())
    neck = copy.deepcopy(model.neck.state_dict())
    lines = fill_model(model, Pretrained(other.backbone.state_dict(), 'FILE'))
    assert 'neck: random' in lines[1]
    assert 'head: random' in lines[2]
    assert lines[3] == 'key_encoder: a copy of the query encoder'
    for name, tensor in other.backbone.state_dict().items():
        assert torch.equal(model.backbone.state_dict()[name], tensor)
        key = model.key_encoder.backbone.state_dict()[name]
        assert torch.equal(key, tensor)
    for name, tensor in neck.items():
        assert torch.equal(model.neck.state_dict()[name], tensor)
        assert torch.equal(model.key_encoder.neck.state_dict()[name], tensor)


def other_neck(model):
    tensors = model.state_dict()
    name = 'neck.projector.0.weight'
    return dict(tensors, **{name: tensors[name][:-1]})


def other_method(model):
    """Name the tensors as the release does for methods other than PixCon."""
    backbone = model.backbone.state_dict()
    tensors = {f'encoder_q.0.{name}': t for name, t in backbone.items()}
    return dict(tensors, **{'prototypes.weight': torch.zeros(3)})


@pytest.mark.parametrize('source', [other_neck, other_method])
def test_a_backbone_is_taken_if_the_rest_does_not_fit(source):
    model, other = tiny.build(), tiny.disturb(tiny.build())
    lines = fill_model(model, Pretrained(source(other), 'FILE'))
    assert 'neck: random' in lines[1]
    assert torch.equal(
        model.backbone.conv1.weight, other.backbone.conv1.weight
    )


@pytest.fixture
def resnet18():
    return MODELS.build(dict(type='mmpretrain.ResNet', depth=18))


@pytest.fixture
def weights(monkeypatch):
    """Torchvision's weights for a ResNet-18, without a network."""
    tensors = torchvision.models.resnet18().state_dict()
    enum = torchvision.models.ResNet18_Weights
    monkeypatch.setattr(
        enum, 'get_state_dict', lambda self, **options: tensors
    )
    return tensors


def test_torchvision_fills_the_backbone(resnet18, weights):
    tensors, origin = download(resnet18)
    assert origin == 'torchvision ResNet18_Weights.IMAGENET1K_V1'
    model = SimpleNamespace(backbone=resnet18)
    (line,) = fill_model(model, Pretrained(tensors, origin))
    assert line == f'backbone: 120/120 tensors from {origin}'
    image = torch.randn(1, 3, 64, 64)
    expected = torchvision.models.resnet18()
    expected.load_state_dict(weights)
    expected.fc = expected.avgpool = torch.nn.Identity()
    resnet18.eval()
    torch.testing.assert_close(
        resnet18(image)[0].flatten(1), expected.eval()(image)
    )


def test_download_that_fails_is_a_sentence(resnet18, monkeypatch):
    def fail(self, **options):
        raise URLError('Name or service not known')

    enum = torchvision.models.ResNet18_Weights
    monkeypatch.setattr(enum, 'get_state_dict', fail)
    text = sentence_of(download, resnet18)
    assert 'could not be downloaded from https://' in text
    assert 'Name or service not known' in text
    assert 'checkpoints, or give a file of weights with --pretrained' in text


def test_hook_warns_of_a_caffe_style_backbone(tmp_path):
    model = tiny.build()
    model.backbone.style = 'caffe'
    path = tmp_path / 'weights.pth'
    torch.save(model.state_dict(), path)
    assert "has style='caffe'" in start_from(path, model)


def test_hook_says_that_a_config_has_loaded_weights_itself():
    model = tiny.build()
    assert 'random weights' in start_from('none', model)
    model.backbone.init_cfg = [
        dict(type='Constant', layer='BatchNorm2d', val=1),
        dict(type='Pretrained', checkpoint='torchvision://resnet18'),
    ]
    line = start_from('none', model)
    assert 'not random' in line
    assert line.endswith('torchvision://resnet18')


def test_a_resumed_run_has_one_source(tmp_path):
    def cfg(source):
        hook = dict(type='PretrainedHook', source=source)
        return runs.config(tmp_path, 'run', {'default_hooks.pretrained': hook})

    done, _ = runs.train(cfg('none'))
    names, start = runs.names(done), runs.checkpoint(done, 'iter_4')
    (tmp_path / 'a.pth').write_bytes(b'weights')
    for other in ('torchvision', str(tmp_path / 'a.pth')):
        with pytest.raises(UserError, match=r'other weights \(none\)'):
            runs.resume(cfg(other), start)
        # Nothing was moved aside for the run that is refused.
        assert runs.names(done) == names
    runner, _ = runs.resume(cfg('none'), start)
    assert runner.iter == 8


def test_a_file_is_known_by_its_content(tmp_path):
    hub, warnings = MessageHub('known'), []
    logger = SimpleNamespace(info=lambda _: None, warning=warnings.append)
    runner = SimpleNamespace(
        model=tiny.build(), logger=logger, message_hub=hub, _has_loaded=False
    )
    first, moved, other = (tmp_path / f'{name}.pth' for name in 'abc')
    torch.save(tiny.build().state_dict(), first)
    torch.save(tiny.disturb(tiny.build()).state_dict(), other)
    PretrainedHook(str(first)).before_train(runner)

    def resume(path, checkpoint):
        PretrainedHook(str(path)).after_load_checkpoint(runner, checkpoint)

    checkpoint = dict(message_hub=hub.state_dict())
    first.rename(moved)
    resume(moved, checkpoint)
    resume(other, dict(state_dict={}))  # load_from
    assert not warnings
    resume(first, checkpoint)  # which is gone
    # The first run had no --pretrained.
    resume(other, dict(message_hub=MessageHub('empty').state_dict()))
    assert [text.partition(': ')[0] for text in warnings] == [
        f'--pretrained {first} is not used',
        f'--pretrained {other} is not used',
    ]
    with pytest.raises(UserError, match='leave out --pretrained'):
        resume(other, checkpoint)
