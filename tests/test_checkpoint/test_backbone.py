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


@pytest.fixture
def layouts(net, average):
    """Contents of files by the project that writes them."""

    def both(name, other, **others):
        return under(name, net) | under(other, average, **others)

    fc = {'fc.weight': torch.ones(10, 64), 'fc.bias': torch.ones(10)}
    timm = dict(state_dict=net | fc, state_dict_ema=average | fc)
    moco = both('module.encoder_q.', 'module.encoder_k.')
    moco |= {'module.encoder_q.fc.weight': torch.ones(3, 64)}
    moco |= {'module.queue': torch.ones(16, 8)}
    slots = {'module.grouping_q.slot_embed.weight': torch.ones(4, 8)}
    # OpenSelfSup's, whose `backbone` is another name of the query's.
    densecl = under('backbone.', net)
    densecl |= both('encoder_q.0.', 'encoder_k.0.', queue2=torch.ones(8, 16))
    trunk = dict(trunk=under('_feature_blocks.', net), heads={})
    vissl = dict(base_model=dict(model=trunk, meta={}), iteration=1)
    byol = under('net.', net)
    byol |= both('online_encoder.net.', 'target_encoder.net.')
    byol |= {'online_predictor.0.weight': torch.ones(3)}
    solo = both('backbone.', 'momentum_backbone.')
    solo |= {'projector.0.weight': torch.ones(3)}
    ours, theirs = numbered(net), numbered(average)
    lightly = under('backbone.', ours) | under('backbone_momentum.', theirs)
    students = under('student_backbone.', ours)
    students |= under('teacher_backbone.', theirs)
    head = {'module.head.mlp.0.weight': torch.ones(3)}
    dino = dict(
        student=under('module.backbone.', net) | head,
        teacher=under('module.backbone.', average) | head,
        dino_loss=dict(center=torch.zeros(1, 8)),
    )
    arrays = {name: tensor.numpy() for name, tensor in net.items()}
    detectron2 = {
        detectron2_name(name): array
        for name, array in arrays.items()
        if not name.endswith('tracked')
    }
    return dict(
        torchvision=net | fc,
        timm=dict(timm, arch='resnet18', args=argparse.Namespace(lr=1)),
        moco=dict(epoch=200, arch='x', state_dict=moco, optimizer={}),
        slotcon=dict(opt=argparse.Namespace(arch='x'), model=moco | slots),
        densecl=dict(meta={}, state_dict=densecl),
        vissl=dict(classy_state_dict=vissl),
        byol=byol,
        lightly=dict(state_dict=lightly, hyper_parameters={}, epoch=9),
        lightly_dino=dict(state_dict=students),
        solo_learn=dict(state_dict=solo, callbacks={}, loops=dict(a={})),
        old_solo_learn=dict(state_dict=both('encoder.', 'momentum_encoder.')),
        mmpretrain=dict(state_dict=both('backbone.', 'target_net.module.0.')),
        dino=dino,
        dinov2=dict(teacher=under('backbone.', net) | head),
        detectron2=dict(model=detectron2, matching_heuristics=True),
        nested_arrays=dict(network=arrays),
    )


def as_pickle(content, path):
    path.write_bytes(pickle.dumps(content, 2))


def as_safetensors(content, path):
    save_file({name: t.clone() for name, t in content.items()}, path)


# What the log says of the place, as a regular expression.
WHERE = dict(
    torchvision='',
    timm=", without a prefix, not 'state_dict_ema.'",
    moco=", under 'module.encoder_q.', not 'module.encoder_k.*",
    slotcon=", under 'module.encoder_q.', not 'module.encoder_k.*",
    densecl=", under 'backbone.', not 'encoder_k.0.'",
    vissl=", under '_feature_blocks.'",
    byol=", under '(online_encoder.)?net.', not 'target_encoder.net.'",
    lightly=", under 'backbone.', not 'backbone_momentum.'",
    solo_learn=", under 'backbone.', not 'momentum_backbone.'",
    old_solo_learn=", under 'encoder.', not 'momentum_encoder.'",
    mmpretrain=", under 'backbone.', not 'target_net.module.0.'",
    dinov2=", under 'backbone.'",
    detectron2='',
    nested_arrays='',
)
FILES = [
    *((name, torch.save) for name in WHERE),
    *((name, as_safetensors) for name in ('torchvision', 'byol')),
    *((name, as_pickle) for name in ('detectron2', 'nested_arrays')),
]


@pytest.mark.parametrize(('layout', 'write'), FILES)
def test_layouts(layout, write, layouts, model, net, tmp_path):
    path = tmp_path / 'weights'
    write(layouts[layout], path)
    line = start_from(path, model)
    assert line.startswith(f'backbone: 120/120 tensors from {path} (sha256 ')
    assert re.fullmatch(WHERE[layout], line.partition(')')[2])
    for name, tensor in model.backbone.state_dict().items():
        if layout != 'detectron2' or not name.endswith('tracked'):
            assert torch.equal(tensor, net[name]), name


@pytest.mark.parametrize(
    ('layout', 'prefix'),
    [
        ('dino', 'teacher.module.backbone.'),
        ('lightly_dino', 'teacher_backbone.'),
    ],
)
def test_teacher_and_student_are_a_choice(
    layout, prefix, layouts, model, average, tmp_path
):
    """The command of the message gives the teacher."""
    path = tmp_path / 'weights.pth'
    torch.save(layouts[layout], path)
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


def test_settings_of_solo_learn(layouts, model, tmp_path, monkeypatch):
    """OmegaConf's objects beside the weights are left out, not made."""
    module = ModuleType('omegaconf.dictconfig')
    module.DictConfig = type('DictConfig', (), {})
    module.DictConfig.__module__ = module.__name__
    monkeypatch.setitem(sys.modules, 'omegaconf', ModuleType('omegaconf'))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    config = module.DictConfig()
    config._content = dict(lr=0.1, kind=dict)
    content = dict(layouts['solo_learn'], hyper_parameters=config)
    torch.save(content, tmp_path / 'a.ckpt')
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
