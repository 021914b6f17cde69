"""Backbones of other projects' checkpoints, by the layouts of these."""

import argparse
import pickle
import re
import sys
from types import ModuleType, SimpleNamespace

import pytest
import torch
from mmpretrain.models import TIMMBackbone
from safetensors.torch import save_file

from pixcon_mm.checkpoint.backbone import backbone_tensors, find_backbone
from pixcon_mm.checkpoint.export import detectron2_name
from pixcon_mm.errors import UserError
from pixcon_mm.tools import export_backbone
from tests.test_engine.test_pretrained_hook import start_from
from tests.test_models import tiny
from tests.test_models.tiny import under


@pytest.fixture
def model():
    return SimpleNamespace(backbone=tiny.build().backbone)


@pytest.fixture
def net(model):
    """The trained network of a file."""
    return {
        name: torch.randn_like(tensor) if tensor.dim() else tensor + 3
        for name, tensor in model.backbone.state_dict().items()
    }


@pytest.fixture
def average(net):
    return {name: tensor + 1 for name, tensor in net.items()}


def numbered(tensors):
    """Name the layers as ``nn.Sequential(*resnet.children())`` does."""
    numbers = ['conv1', 'bn1', 'relu', 'maxpool']
    numbers += [f'layer{stage}' for stage in (1, 2, 3, 4)]
    split = [(name.partition('.'), t) for name, t in tensors.items()]
    return {
        f'{numbers.index(first)}.{rest}': t for (first, _, rest), t in split
    }


def moco(net, average):
    head = {'module.encoder_q.fc.weight': torch.ones(3, 64)}
    both = under('module.encoder_q.', net, **head)
    both |= under('module.encoder_k.', average)
    both |= {'module.queue': torch.ones(16, 8)}
    return dict(epoch=200, arch='resnet18', state_dict=both, optimizer={})


def slotcon(net, average):
    tensors = moco(net, average)['state_dict']
    tensors['module.grouping_q.slot_embed.weight'] = torch.ones(4, 8)
    return dict(opt=argparse.Namespace(arch='x'), model=tensors, epoch=800)


def densecl(net, average):
    """OpenSelfSup, whose ``backbone`` is another name of the query's."""
    tensors = under('backbone.', net) | under('encoder_q.0.', net)
    tensors |= under('encoder_k.0.', average, queue2=torch.ones(8, 16))
    return dict(meta={}, state_dict=tensors)


def vissl(net, average):
    trunk = under('_feature_blocks.', net)
    base = dict(model=dict(trunk=trunk, heads={}), meta={})
    return dict(classy_state_dict=dict(base_model=base), iteration=1)


def byol(net, average):
    tensors = under('net.', net) | under('online_encoder.net.', net)
    tensors |= under('target_encoder.net.', average)
    return tensors | {'online_predictor.0.weight': torch.ones(3)}


def lightly(net, average):
    tensors = under('backbone.', numbered(net))
    tensors |= under('backbone_momentum.', numbered(average))
    return dict(state_dict=tensors, hyper_parameters={}, epoch=9)


def lightly_dino(net, average):
    tensors = under('student_backbone.', numbered(net))
    return dict(
        state_dict=tensors | under('teacher_backbone.', numbered(average))
    )


def solo_learn(net, average, name='backbone'):
    tensors = under(f'{name}.', net) | under(f'momentum_{name}.', average)
    tensors |= {'projector.0.weight': torch.ones(3)}
    return dict(state_dict=tensors, callbacks={}, loops=dict(fit_loop={}))


def old_solo_learn(net, average):
    return solo_learn(net, average, name='encoder')


def mmpretrain(net, average):
    tensors = under('backbone.', net) | under('target_net.module.0.', average)
    return dict(meta={}, state_dict=tensors, message_hub={})


def timm(net, average):
    fc = {'fc.weight': torch.ones(10, 64), 'fc.bias': torch.ones(10)}
    both = dict(state_dict=net | fc, state_dict_ema=average | fc)
    return dict(both, arch='resnet18', args=argparse.Namespace(lr=1))


def dino(net, average):
    head = {'module.head.mlp.0.weight': torch.ones(3)}
    teacher = under('module.backbone.', average) | head
    student = under('module.backbone.', net) | head
    loss = dict(center=torch.zeros(1, 8))
    return dict(student=student, teacher=teacher, epoch=1, dino_loss=loss)


def dinov2(net, average):
    head = {'dino_head.mlp.0.weight': torch.ones(3)}
    return dict(teacher=under('backbone.', net) | head)


def detectron2(net, average):
    arrays = {
        detectron2_name(name): tensor.numpy()
        for name, tensor in net.items()
        if not name.endswith('tracked')
    }
    return dict(model=arrays, __author__='x', matching_heuristics=True)


def torchvision(net, average):
    return net | {'fc.weight': torch.ones(10, 64), 'fc.bias': torch.ones(10)}


def nested_arrays(net, average):
    return dict(network={name: t.numpy() for name, t in net.items()})


def as_pickle(content, path):
    path.write_bytes(pickle.dumps(content, 2))


def as_safetensors(content, path):
    save_file({name: t.clone() for name, t in content.items()}, path)


@pytest.mark.parametrize(
    ('layout', 'write', 'where'),
    [
        (torchvision, torch.save, ''),
        (torchvision, as_safetensors, ''),
        (timm, torch.save, ", without a prefix, not 'state_dict_ema.'"),
        (moco, torch.save, ", under 'module.encoder_q.', not 'module.enc.*"),
        (slotcon, torch.save, ", under 'module.encoder_q.', not 'module.e.*"),
        (densecl, torch.save, ", under 'backbone.', not 'encoder_k.0.'"),
        (vissl, torch.save, ", under '_feature_blocks.'"),
        (byol, torch.save, ", under 'net.', not 'target_encoder.net.'"),
        (byol, as_safetensors, ", under '.*net.', not 'target_encoder.net.'"),
        (lightly, torch.save, ", under 'backbone.', not 'backbone_momentum.'"),
        (solo_learn, torch.save, ", under 'backbone.', not 'momentum_back.*"),
        (old_solo_learn, torch.save, ", under 'encoder.', not 'momentum_e.*"),
        (mmpretrain, torch.save, ", under 'backbone.', not 'target_net.mod.*"),
        (dinov2, torch.save, ", under 'backbone.'"),
        (detectron2, torch.save, ''),
        (detectron2, as_pickle, ''),
        (nested_arrays, torch.save, ''),
        (nested_arrays, as_pickle, ''),
    ],
)
def test_layouts(layout, write, where, model, net, average, tmp_path):
    path = tmp_path / 'weights'
    write(layout(net, average), path)
    line = start_from(path, model)
    assert line.startswith(f'backbone: 120/120 tensors from {path} (sha256 ')
    assert re.fullmatch(where, line.partition(')')[2])
    for name, tensor in model.backbone.state_dict().items():
        if layout is not detectron2 or not name.endswith('tracked'):
            assert torch.equal(tensor, net[name]), name


@pytest.mark.parametrize(
    ('layout', 'prefix'),
    [(dino, 'teacher.module.backbone.'), (lightly_dino, 'teacher_backbone.')],
)
def test_teacher_and_student_are_a_choice(
    layout, prefix, model, net, average, tmp_path, capsys
):
    """The command of the message gives the teacher."""
    path = tmp_path / 'weights.pth'
    torch.save(layout(net, average), path)
    with pytest.raises(UserError, match='2 different backbones') as caught:
        start_from(path, model)
    assert f'--format mmlab --prefix {prefix}' in str(caught.value)
    export_backbone.main(
        [str(path), '--format', 'mmlab', '--prefix', prefix, '--out']
        + [str(tmp_path / 'teacher.pth')]
    )
    start_from(tmp_path / 'teacher.pth', model)
    found = model.backbone.state_dict()
    assert all(torch.equal(found[name], average[name]) for name in found)


def test_settings_of_solo_learn(model, net, average, tmp_path, monkeypatch):
    """OmegaConf's objects beside the weights are left out, not made."""
    module = ModuleType('omegaconf.dictconfig')
    module.DictConfig = type('DictConfig', (), {})
    module.DictConfig.__module__ = module.__name__
    monkeypatch.setitem(sys.modules, 'omegaconf', ModuleType('omegaconf'))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    config = module.DictConfig()
    config._content = dict(lr=0.1, kind=dict)
    content = solo_learn(net, average)
    torch.save(dict(content, hyper_parameters=config), tmp_path / 'a.ckpt')
    monkeypatch.undo()
    assert '120/120' in start_from(tmp_path / 'a.ckpt', model)


def test_only_one_of_two_has_the_shapes(model, net, tmp_path):
    """A teacher of another width does not fit."""
    wide = {n: torch.cat([t, t]) if t.dim() else t for n, t in net.items()}
    torch.save(dict(teacher=wide, student=net), tmp_path / 'a.pth')
    assert "under 'student.'" in start_from(tmp_path / 'a.pth', model)


@pytest.mark.parametrize(
    ('change', 'problem'),
    [
        (lambda t: t.pop('layer2.0.bn1.weight'), '1 of 120 .* not in .*, und'),
        (lambda t: t['conv1.weight'].fill_(torch.nan), 'NaN .* diverged'),
        (lambda t: t.update({'conv1.bias': torch.ones(8)}), 'no place for 1'),
    ],
)
def test_a_missing_part_is_named_with_keys_and_place(
    change, problem, model, net, tmp_path
):
    before = {n: t.clone() for n, t in model.backbone.state_dict().items()}
    change(net)
    content = dict(epoch=1, network=under('module.encoder.', net))
    torch.save(content, tmp_path / 'a.pth')
    with pytest.raises(UserError, match=problem) as caught:
        start_from(tmp_path / 'a.pth', model)
    keys = "top-level keys 'epoch' and 'network'; 1"
    assert keys in str(caught.value)
    assert "named tensors are in 'network'" in str(caught.value)
    for name, tensor in model.backbone.state_dict().items():
        assert torch.equal(tensor, before[name])


@pytest.mark.parametrize(
    ('name', 'last'),
    [
        ('convnext_atto', None),
        ('convnext_atto', 3),
        ('vit_tiny_patch16_224', 11),
    ],
)
def test_timms_own_names_fill_its_wrapper(name, last):
    own = TIMMBackbone(name).timm_model.state_dict()
    options = dict(features_only=True, out_indices=(last,)) if last else {}
    wrapper = TIMMBackbone(name, **options).state_dict()
    place = find_backbone(own, wrapper, 'FILE')
    assert wrapper.keys() <= place.tensors.keys()


def test_backbone_of_a_file_for_any_model():
    bare = {'conv1.weight': 1, 'layer1.0.conv1.weight': 2}
    ours = under('backbone.', bare, **{'key_encoder.backbone.a.weight': 3})
    assert backbone_tensors(ours) == bare
    # The release keeps an alias of it beside the query encoder.
    release = under('encoder_q.0.', bare, **{'backbone.conv1.weight': 3})
    assert backbone_tensors(release) == bare
