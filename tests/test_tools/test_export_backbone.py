"""The export says what it wrote, or in a sentence why it did not."""

import os
import re
from pathlib import Path

import pytest
import timm
import torch
import yaml
from mmpretrain.models import ResNet
from safetensors import safe_open

from pixcon_mm.checkpoint.load import sha256_of
from pixcon_mm.tools import export_backbone as tool
from tests.test_models.tiny import under


@pytest.fixture(scope='module')
def resnet():
    torch.manual_seed(0)
    return dict(ResNet(18).state_dict())


@pytest.fixture
def checkpoint(resnet, tmp_path):
    """Pre-training's file: a query backbone, a key backbone, and the rest."""
    key = {name: tensor + 1 for name, tensor in resnet.items()}
    tensors = {
        **under('key_encoder.backbone.', key),
        **under('backbone.', resnet),
        'neck.projector.0.bias': torch.zeros(3),
    }
    path = tmp_path / 'epoch_2.pth'
    torch.save(dict(state_dict=tensors, meta=dict(epoch=2)), path)
    return path


@pytest.fixture
def run(call):
    """Run the tool here; returns its output, or its error's sentence."""

    def _run(*words):
        status, shown, error = call(tool.main, *words)
        if status:
            assert error.startswith('error: ')
            assert error.count('\n') == 1
        return error if status else shown

    return _run


def files(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize(
    ('file_format', 'name', 'count'),
    [
        ('torchvision', 'epoch_2_torchvision.pth', 120),
        ('mmlab', 'epoch_2_mmlab.pth', 120),
        ('timm', 'epoch_2_timm.pth', 120),
        ('detectron2', 'epoch_2_detectron2.pkl', 100),
        ('safetensors', 'epoch_2_safetensors.safetensors', 120),
    ],
)
def test_each_format_has_its_file(run, checkpoint, file_format, name, count):
    path = checkpoint.with_name(name)
    shown = run(checkpoint, '--format', file_format)
    words = f'({file_format}, {count} tensors, sha256 {sha256_of(path)})'
    assert f'wrote {path} {words}\n' in shown
    assert files(path.parent) == sorted([checkpoint.name, name])


def test_the_query_backbone_and_where_it_is_from(
    run, checkpoint, resnet, tmp_path
):
    run(checkpoint, '--format', 'mmlab', '--out', tmp_path / 'a.pt')
    run(checkpoint, '--format', 'safetensors')
    content = torch.load(tmp_path / 'a.pt', weights_only=True)
    tensors, notes = content['state_dict'], content['meta']
    assert tensors.keys() == under('backbone.', resnet).keys()
    for name, tensor in resnet.items():
        assert torch.equal(tensors[f'backbone.{name}'], tensor), name
    assert notes['source'] == 'epoch_2.pth'
    assert notes['source_sha256'] == sha256_of(checkpoint)
    assert notes['architecture'] == 'resnet18'
    path = checkpoint.with_name('epoch_2_safetensors.safetensors')
    with safe_open(path, 'pt') as file:
        assert file.metadata() == dict(notes, format='pt')


@pytest.mark.parametrize(('depth', 'narrow'), [(18, True), (50, False)])
def test_detectron2_settings(run, tmp_path, depth, narrow):
    torch.save(ResNet(depth).state_dict(), tmp_path / 'bare.pth')
    printed = run(tmp_path / 'bare.pth', '--format', 'detectron2')
    words = printed.replace('\\\n', '').partition('file:')[2].split()
    settings = dict(zip(words[::2], words[1::2], strict=True))
    path = tmp_path / 'bare_detectron2.pkl'
    assert settings.pop('MODEL.WEIGHTS') == str(path)
    assert ('MODEL.RESNETS.RES2_OUT_CHANNELS' in settings) == narrow
    settings.pop('MODEL.RESNETS.RES2_OUT_CHANNELS', None)
    assert settings == {
        'MODEL.RESNETS.DEPTH': str(depth),
        'MODEL.RESNETS.STRIDE_IN_1X1': 'False',
        'MODEL.RESNETS.NORM': 'SyncBN',
        'MODEL.BACKBONE.FREEZE_AT': '0',
        'INPUT.FORMAT': 'RGB',
        'MODEL.PIXEL_MEAN': "'[123.675,116.28,103.53]'",
        'MODEL.PIXEL_STD': "'[58.395,57.12,57.375]'",
    }


@pytest.fixture
def foreign(resnet, tmp_path):
    """MoCo's file: two encoders, whose ``fc`` is the projection."""
    tensors = {}
    for name, shift in (('encoder_k', 1), ('encoder_q', 0)):
        tensors |= under(
            f'module.{name}.', {k: v + shift for k, v in resnet.items()}
        )
        tensors[f'module.{name}.fc.0.weight'] = torch.zeros(8, 8)
    path = tmp_path / 'moco.pth.tar'
    torch.save(dict(state_dict=tensors, epoch=3), path)
    return path


@pytest.mark.parametrize('prefix', [None, 'module.'])
def test_missing_prefix_is_suggested(run, foreign, prefix):
    error = run(
        foreign,
        *('--format', 'mmlab'),
        *(('--prefix', prefix) if prefix else ()),
    )
    places = re.findall(r"'(module\..*?)'", error)
    assert {'module.encoder_k.', 'module.encoder_q.'} <= set(places)
    assert '--prefix' in error
    assert files(foreign.parent) == [foreign.name]


def test_a_nested_backbone_of_any_kind_needs_a_prefix(run, tmp_path):
    """All tensors of the file would be written as the backbone."""
    bare = {'stem.weight': torch.ones(2), 'blocks.0.bias': torch.ones(2)}
    head = {'module.head.weight': torch.ones(2)}
    student = under('module.backbone.', bare) | head
    path = tmp_path / 'dino.pth'
    torch.save(dict(student=student, teacher=student | head), path)
    assert '--prefix' in run(path, '--format', 'mmlab')
    assert files(tmp_path) == [path.name]
    # The last dot may be left out.
    run(path, '--format', 'mmlab', '--prefix', 'student.module.backbone')
    content = torch.load(tmp_path / 'dino_mmlab.pth', weights_only=True)
    assert content['state_dict'].keys() == under('backbone.', bare).keys()


def test_weights_that_are_not_finite_are_not_exported(run, resnet, tmp_path):
    path = tmp_path / 'epoch_3.pth'
    spoilt = dict(resnet, **{'conv1.weight': resnet['conv1.weight'].clone()})
    spoilt['conv1.weight'][0, 0, 0, 0] = torch.nan
    torch.save(dict(state_dict=under('backbone.', spoilt)), path)
    assert "infinite values in 'conv1.weight'" in run(
        path, '--format', 'torchvision'
    )
    assert files(tmp_path) == [path.name]


def test_a_backbone_may_have_a_part_of_that_name(run, tmp_path):
    """MMSegmentation's STDCContextPathNet and ICNet, for instance."""
    parts = {'backbone.stem.weight': torch.ones(2), 'arm.bias': torch.ones(2)}
    torch.save(dict(state_dict=under('backbone.', parts)), tmp_path / 'a.pth')
    assert 'mmlab, 2 tensors' in run(tmp_path / 'a.pth', '--format', 'mmlab')


@pytest.mark.parametrize('way', ['same', 'relative', 'link'])
def test_checkpoint_is_never_overwritten(run, checkpoint, monkeypatch, way):
    monkeypatch.chdir(checkpoint.parent)
    before = sha256_of(checkpoint)
    out = {
        'same': checkpoint,
        'relative': Path(checkpoint.name),
        'link': checkpoint.with_name('link.pth'),
    }[way]
    if way == 'link':
        os.link(checkpoint, out)
    error = run(checkpoint, '--format', 'timm', '--out', out)
    assert 'is the checkpoint itself' in error
    assert sha256_of(checkpoint) == before


@pytest.mark.parametrize(
    ('out', 'reason'),
    [
        ('', 'is a folder'),
        ('a.pth', r'\*\.pkl'),
        ('epoch_2.pth/a.pkl', 'epoch_2.pth cannot be written'),
    ],
)
def test_impossible_places(run, checkpoint, out, reason):
    out = checkpoint.parent / out
    error = run(checkpoint, '--format', 'detectron2', '--out', out)
    assert re.search(reason, error)
    assert files(checkpoint.parent) == [checkpoint.name]


def test_hugging_face_folder(run, checkpoint, resnet):
    printed = run(checkpoint, '--format', 'huggingface')
    folder = checkpoint.with_name('epoch_2_huggingface')
    assert files(folder) == ['README.md', 'config.json', 'model.safetensors']
    for path in folder.iterdir():
        words = f'(huggingface, sha256 {sha256_of(path)})'
        assert f'wrote {path} {words}' in printed
    model = timm.create_model(f'local-dir:{folder}', pretrained=True)
    found = model.state_dict()
    assert all(torch.equal(found[name], resnet[name]) for name in resnet)
    data = timm.data.resolve_model_data_config(model)
    assert tuple(data['mean']) == timm.data.IMAGENET_DEFAULT_MEAN
    assert tuple(data['std']) == timm.data.IMAGENET_DEFAULT_STD
    # The hub reads the head of the card as YAML.
    head = (folder / 'README.md').read_text().split('---\n')[1]
    assert yaml.safe_load(head)['library_name'] == 'timm'


def test_a_card_and_the_checkpoint_are_kept(run, checkpoint):
    options = ('--format', 'huggingface', '--out')
    folder = checkpoint.with_name('hub')
    card = folder / 'README.md'
    assert f'training and licence to {card}' in run(
        checkpoint, *options, folder
    )
    card.write_text(f'{card.read_text()}Results: 1.0\n')
    before = card.read_text()
    shown = run(checkpoint, *options, folder)
    assert f'kept {card}, which may name other weights' in shown
    assert 'training and licence' not in shown
    assert card.read_text() == before
    written = folder / 'model.safetensors'
    before = sha256_of(written)
    assert 'is the checkpoint itself' in run(written, *options, folder)
    assert sha256_of(written) == before


@pytest.mark.parametrize('file_format', ['timm', 'huggingface', 'onnx'])
def test_a_failed_export_makes_no_folder(run, tmp_path, file_format):
    words = ['--format', file_format, '--out', tmp_path / 'new/a.pth']
    if file_format == 'onnx':
        words = [*words[:-1], tmp_path / 'new/a.onnx', '--arch', 'resnet18']
    assert 'error: ' in run(tmp_path / 'missing.pth', *words)
    assert not (tmp_path / 'new').exists()


def test_onnx(run, checkpoint, resnet):
    onnxruntime = pytest.importorskip('onnxruntime')
    options = (checkpoint, '--format', 'onnx', '--arch', 'resnet18')
    path = checkpoint.with_name('epoch_2_onnx.onnx')
    assert f'wrote {path} (onnx, like PyTorch within ' in run(*options)
    assert onnxruntime.InferenceSession(path)


@pytest.mark.parametrize(
    'options',
    [('--format', 'onnx'), ('--format', 'timm', '--arch', 'resnet18')],
)
def test_arch_is_for_onnx(call, options, tmp_path):
    status, _, error = call(tool.main, tmp_path / 'a.pth', *options)
    assert status == 2
    assert '--format onnx needs --arch' in error
