"""Every library gets from the exported file what the backbone was."""

import pickle

import pytest
import timm
import torch
import torchvision
from mmpretrain.models import ConvNeXt, ResNet, ResNetV1c, ResNetV1d, ResNeXt
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from pixcon_mm.checkpoint.export import SUFFIXES, encode, rename, resnet_depth
from pixcon_mm.errors import UserError
from tests.test_models import tiny

PLAIN_ONLY = [name for name in SUFFIXES if name != 'mmlab']


@pytest.fixture(
    scope='module', params=[pytest.param(18, marks=pytest.mark.slow), 50]
)
def backbone(request):
    """A ResNet in evaluation mode, with statistics as after training."""
    torch.manual_seed(request.param)
    model = ResNet(request.param, norm_cfg=dict(type='BN'))
    tiny.disturb(model, scale=0.01)
    model.depth = request.param
    # MMPretrain returns no model from here.
    model.eval()
    return model


@pytest.fixture
def write(backbone, tmp_path):
    """Write the backbone in a format, and name the file."""

    def _write(file_format, tensors=None):
        named = rename(tensors or backbone.state_dict(), file_format)
        path = tmp_path / f'weights{SUFFIXES[file_format][0]}'
        path.write_bytes(encode(named, file_format, dict(source='a.pth')))
        return path

    return _write


@torch.no_grad()
def check_equal(model, backbone):
    image = torch.randn(2, 3, 64, 64)
    output, expected = model(image), backbone(image)[0]
    assert output.shape == expected.shape
    error = (output - expected).abs().max() / expected.abs().max()
    assert error <= 1e-6


def test_mmlab_file_initialises_an_openmmlab_model(write, backbone):
    path = write('mmlab')
    content = torch.load(path, weights_only=True)
    assert content['meta'] == {'source': 'a.pth'}
    source = dict(type='Pretrained', checkpoint=str(path), prefix='backbone.')
    model = ResNet(backbone.depth, init_cfg=source)
    model.init_weights()
    model.eval()
    check_equal(lambda image: model(image)[0], backbone)


@pytest.mark.parametrize('file_format', ['torchvision', 'safetensors'])
def test_torchvision_lacks_the_classifier_only(write, backbone, file_format):
    path = write(file_format)
    if file_format == 'safetensors':
        state_dict = load_file(path)
        with safe_open(path, 'pt') as file:
            assert file.metadata() == {'source': 'a.pth', 'format': 'pt'}
    else:
        state_dict = torch.load(path, weights_only=True)
    model = torchvision.models.get_model(f'resnet{backbone.depth}').eval()
    missing, unexpected = model.load_state_dict(state_dict, strict=False)
    assert (missing, unexpected) == (['fc.weight', 'fc.bias'], [])
    check_equal(nn.Sequential(*list(model.children())[:-2]), backbone)


@pytest.mark.parametrize('file_format', ['timm', 'safetensors'])
def test_timm_reads_the_file(write, backbone, file_format):
    path = str(write(file_format))
    name = f'resnet{backbone.depth}'
    model = timm.create_model(name, num_classes=0, checkpoint_path=path).eval()
    check_equal(model.forward_features, backbone)


class Recorder(pickle.Unpickler):
    """Notes which classes and functions a file refers to."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.found = set()

    def find_class(self, module, name):
        self.found.add(f'{module}.{name}')
        return super().find_class(module, name)


# Names in Detectron2's own ResNets of all kinds of layers.
DETECTRON2 = {
    'stem.conv1.weight': 'conv1.weight',
    'stem.conv1.norm.running_var': 'bn1.running_var',
    'res2.1.conv2.norm.bias': 'layer1.1.bn2.bias',
    'res3.0.shortcut.weight': 'layer2.0.downsample.0.weight',
    'res4.0.shortcut.norm.running_mean': 'layer3.0.downsample.1.running_mean',
    'res5.1.conv1.norm.weight': 'layer4.1.bn1.weight',
}
BOTTLENECK = {'res2.0.conv3.norm.weight': 'layer1.0.bn3.weight'}


def test_detectron2_gets_its_names(write, backbone):
    """An old NumPy, which lacks what NumPy 2 refers to, reads it too."""
    with write('detectron2').open('rb') as file:
        # As Detectron2 reads it.
        recorder = Recorder(file, encoding='latin1')
        content = recorder.load()
    assert recorder.found == {'numpy.ndarray', 'builtins.bytearray'}
    assert content['__author__'] == 'pixcon_mm'
    assert content['matching_heuristics'] is True
    # Torch wants arrays that it may write into.
    assert all(array.flags.writeable for array in content['model'].values())
    tensors = backbone.state_dict()
    counters = [name for name in tensors if name.endswith('tracked')]
    assert len(content['model']) == len(tensors) - len(counters)
    names = {**DETECTRON2, **(BOTTLENECK if backbone.depth > 34 else {})}
    for theirs, ours in names.items():
        array = torch.from_numpy(content['model'][theirs])
        assert torch.equal(array, tensors[ours]), theirs


def test_detectron2_gets_single_precision(backbone, write):
    half = {k: v.bfloat16() for k, v in backbone.state_dict().items()}
    with write('detectron2', half).open('rb') as file:
        model = pickle.load(file)['model']
    assert {str(array.dtype) for array in model.values()} == {'float32'}
    expected = half['conv1.weight'].float()
    assert torch.equal(torch.tensor(model['stem.conv1.weight']), expected)


@pytest.mark.parametrize('file_format', SUFFIXES)
def test_layout_in_memory_does_not_matter(file_format):
    """Views of larger storages, and channels last as in fast training."""
    tensor = torch.randn(4, 8, 3, 3)
    odd = torch.randn(9, 8, 3, 3)[:4].to(memory_format=torch.channels_last)
    odd.copy_(tensor)
    view = torch.cat([tensor, torch.zeros(4000, 8, 3, 3)])[:4]
    plain = encode({'a': tensor}, file_format, {})
    assert encode({'a': odd}, file_format, {}) == plain
    assert encode({'a': view}, file_format, {}) == plain


def tensors_of(cls, depth=50, **options):
    return dict(cls(depth=depth, **options).state_dict())


@pytest.mark.parametrize('depth', [18, 34, 50, 101, 152])
def test_depth_follows_from_the_names(depth):
    names = tensors_of(ResNet, depth, stem_channels=8, base_channels=8)
    assert resnet_depth(names) == depth
    # A classifier, or MoCo's projection of that name.
    assert resnet_depth([*names, 'fc.0.weight', 'fc.2.weight']) == depth
    assert resnet_depth([*names, 'neck.weight']) is None
    assert resnet_depth(n for n in names if 'layer4.1' not in n) is None
    assert resnet_depth(f'backbone.{n}' for n in names) is None


@pytest.mark.parametrize('cls', [ConvNeXt, ResNetV1c, ResNetV1d])
def test_other_backbones_go_to_mmlab_only(cls):
    """Other stems, shortcuts and blocks."""
    if cls is ConvNeXt:
        small = dict(depths=[1] * 4, channels=[8] * 4)
        tensors = ConvNeXt(small).state_dict()
    else:
        tensors = tensors_of(cls, base_channels=8)
    assert resnet_depth(tensors) is None
    assert len(rename(tensors, 'mmlab')) == len(tensors)
    for file_format in PLAIN_ONLY:
        with pytest.raises(UserError, match=r'are not\..*--format mmlab'):
            rename(tensors, file_format)


def test_other_widths_are_named():
    """Names of ResNeXt are those of ResNet."""
    with pytest.raises(UserError, match=r'(128|256), 64, 1, 1\)'):
        rename(tensors_of(ResNeXt), 'timm')


def test_missing_and_additional_tensors_are_named():
    """Counters of batches may be missing, as in weights of old PyTorch."""
    tensors = {
        name: tensor
        for name, tensor in tensors_of(ResNet, 18).items()
        if not name.endswith('num_batches_tracked')
    }
    assert rename(tensors, 'timm') == tensors
    mean = tensors.pop('bn1.running_mean')
    with pytest.raises(UserError, match=r'bn1.running_mean.*missing'):
        rename(tensors, 'torchvision')
    tensors |= {'bn1.running_mean': mean, 'conv1.bias': mean}
    with pytest.raises(UserError, match=r'conv1.bias.*missing'):
        rename(tensors, 'torchvision')
