"""Tests of backbones: any library, any stride, the weights of a file."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from torchvision.models import resnet18

from pixcon_mm import dense_features, load_backbone
from pixcon_mm.errors import UserError, explain
from tests import ROOT

OURS = str(ROOT / 'configs/pretrain/pixcon_r18_100e_coco.py')
FCN = str(ROOT / 'configs/segmentation/fcn-d6_r50-d16_30k_voc12aug.py')
VIT = """
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='VisionTransformer', arch='deit-tiny', img_size=64, patch_size=16,
        init_cfg=[
            dict(type='TruncNormal', layer='Linear', std=0.02),
            dict(type='Pretrained', checkpoint='nowhere.pth'),
        ],
    ),
)
data_preprocessor = dict(mean=[1, 2, 3], std=[4, 5, 6], to_rgb=False)
"""
# With a pooled output, and weights as in a config of MMDetection.
CONVNEXT = """
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='ConvNeXt', arch=dict(depths=[1] * 4, channels=[8, 8, 8, 16]),
        init_cfg=dict(checkpoint='nowhere.pth'),
    ),
)
"""
BEIT = """
model = dict(
    type='ImageClassifier',
    backbone=dict(type='BEiTViT', arch='deit-tiny', patch_size=32),
)
"""


def load_config(folder, text):
    """Load a backbone from a config of this text."""
    (folder / 'net.py').write_text(text)
    return load_backbone(str(folder / 'net.py'), 'none')


@pytest.fixture(scope='module')
def weights(tmp_path_factory):
    """A ResNet-18 whose BN layers are not the identity."""
    torch.manual_seed(1)
    state = resnet18().state_dict()
    for name, tensor in state.items():
        if name.endswith(('running_mean', 'bias')):
            tensor.normal_(std=0.1)
        elif name.endswith('running_var'):
            tensor.uniform_(0.5, 2)
    path = tmp_path_factory.mktemp('weights') / 'resnet18.pth'
    torch.save({f'backbone.{k}': v for k, v in state.items()}, path)
    return path


@pytest.mark.parametrize('arch', [OURS, 'resnet18', 'timm:resnet18'])
def test_libraries_give_the_same_features(arch, weights):
    image = torch.randint(256, (2, 3, 64, 96), dtype=torch.uint8)
    expected = load_backbone('resnet18', weights)(image)
    backbone = load_backbone(arch, weights)
    assert (backbone.stride, backbone.channels) == (32, 512)
    torch.testing.assert_close(backbone(image), expected, rtol=1e-4, atol=1e-4)
    assert backbone.describe()['sha256']


@pytest.mark.parametrize(
    ('arch', 'stride'),
    [
        ('resnet18', 16),
        pytest.param('resnet18', 8, marks=pytest.mark.slow),
        pytest.param('resnet50', 16, marks=pytest.mark.slow),
        ('mobilenet_v2', 16),
        (OURS, 8),
        (FCN, 8),  # it has a stride of 16 by dilation already
    ],
)
def test_dilation_keeps_the_cells_of_the_original_map(arch, stride):
    native, dense = (load_backbone(arch, 'none', s) for s in (None, stride))
    assert (native.stride, dense.stride) == (16 if arch == FCN else 32, stride)
    image = torch.randint(256, (1, 3, 64, 96), dtype=torch.uint8)
    expected, found = native(image), dense(image)
    assert found.shape[2:] == (64 // stride, 96 // stride)
    step = native.stride // stride
    torch.testing.assert_close(
        found[..., ::step, ::step],
        expected,
        rtol=1e-4,
        atol=1e-5 * expected.abs().max().item(),
    )


@pytest.mark.parametrize(
    ('arch', 'stride', 'channels'),
    [('timm:vit_tiny_patch16_224', 16, 192), ('timm:convnext_atto', 32, 320)],
)
def test_other_networks_give_maps(arch, stride, channels):
    backbone = load_backbone(arch, 'none')
    assert (backbone.stride, backbone.channels) == (stride, channels)
    maps = backbone(torch.zeros(1, 3, 64, 128))
    assert maps.shape == (1, channels, 64 // stride, 128 // stride)


def test_classifiers_of_mmpretrain_give_maps(tmp_path):
    images = torch.zeros(1, 3, 32, 64)
    assert load_config(tmp_path, CONVNEXT)(images).shape == (1, 16, 1, 2)
    backbone = load_config(tmp_path, VIT)
    assert backbone(images).shape == (1, 192, 2, 4)
    described = backbone.describe()
    assert described['mean'] == [1, 2, 3]
    assert described['channel_order'] == 'BGR'


def test_a_network_for_values_that_are_not_normalised(tmp_path):
    """As MMDetection's YOLOX."""
    backbone = load_config(
        tmp_path,
        "model = dict(backbone=dict(type='ResNet', depth=18),"
        " data_preprocessor=dict(type='ImgDataPreprocessor'))",
    )
    image = torch.randint(256, (1, 3, 32, 64), dtype=torch.uint8)
    expected = backbone.net(image.float().flip(1))[0]
    torch.testing.assert_close(backbone(image), expected)


def test_random_weights_follow_their_seed():
    image = torch.full((1, 3, 32, 32), 100.0)
    state = torch.get_rng_state()
    a, b, c = (
        load_backbone('resnet18', 'none', seed=seed)(image)
        for seed in (0, 0, 1)
    )
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    ('arch', 'stride', 'words'),
    [
        ('resnet19', None, "Did you mean 'resnet1"),
        ('timm:resnt50', None, "Did you mean 'resnet50'"),
        ('vit_b_16', None, 'timm:NAME'),
        ('resnet18', 64, 'stride 32 and cannot be brought to 64'),
        ('resnet18', 12, 'cannot be brought to 12'),
        ('timm:vit_tiny_patch16_224', 8, 'patches of 16'),
        ('timm:resnet26d', 16, 'AvgPool2d'),
        ('timm:convnext_atto', 16, 'cannot be brought to 16'),
        # Its shortcuts subsample by convolutions, its branches by blurring.
        ('timm:resnetblur18', 16, 'cannot be brought to 16'),
        ('timm:test_vit.dino', None, "'test_vit.r160_in1k'"),
        ('timm:botnet26t_256', None, 'not take an image of 224 x 224'),
    ],
)
def test_what_cannot_be_built_is_explained(arch, stride, words):
    with pytest.raises(UserError, match=words):
        load_backbone(arch, 'none', stride)


def test_an_unknown_backbone_of_a_config_is_named(tmp_path):
    text = "model = dict(backbone=dict(type='ResNett', depth=18))"
    with pytest.raises(Exception, match='ResNett') as caught:
        load_config(tmp_path, text)
    assert explain(caught.value)


def test_dense_features_of_one_image(weights, tmp_path):
    pixels = np.random.default_rng(0).integers(256, size=(70, 99, 3))
    pixels = pixels.astype(np.uint8)
    backbone = load_backbone('resnet18', weights, stride=16)
    found = dense_features(backbone, pixels)
    assert found.shape == (512, 4, 6)
    Image.fromarray(pixels).save(tmp_path / 'a.png')
    torch.testing.assert_close(
        dense_features(backbone, tmp_path / 'a.png'), found
    )
    # RGB: a network sees red where it is red.
    red = np.zeros((32, 32, 3), np.uint8)
    red[..., 0] = 255
    same = backbone(torch.from_numpy(red).permute(2, 0, 1)[None])[0]
    torch.testing.assert_close(dense_features(backbone, red), same)


@pytest.mark.parametrize(
    'arch', ['timm:swin_tiny_patch4_window7_224', 'beit.py']
)
def test_a_network_of_one_size_says_so(arch, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path('beit.py').write_text(BEIT)
    backbone = load_backbone(arch, 'none')
    assert backbone.stride == 32
    with pytest.raises(UserError, match='not take images of 64 x 96'):
        backbone(torch.zeros(1, 3, 64, 96))


def test_an_image_smaller_than_its_padding_says_so():
    """The small recipes pad by reflection, which needs some pixels."""
    config = ROOT / 'configs/pretrain/pixcon_r18-w32_small.py'
    backbone = load_backbone(str(config), 'none')
    with pytest.raises(UserError, match='not take images of 16 x 16 pixels'):
        backbone(torch.zeros(1, 3, 16, 16))


@pytest.mark.parametrize('name', ['convnext_atto', 'resnet10t'])
def test_timms_own_weights_with_their_classifier(name, tmp_path):
    net = timm.create_model(name)
    torch.save(net.state_dict(), tmp_path / 'a.pth')
    found = load_backbone(f'timm:{name}', tmp_path / 'a.pth').net.state_dict()
    own = net.state_dict()
    assert all(torch.equal(own[key], value) for key, value in found.items())
    assert {*own} - {*found}  # the classifier
    own['head.other.weight'] = own['head.mlp.weight'] = torch.zeros(1)
    if name.startswith('convnext'):
        torch.save(own, tmp_path / 'a.pth')
        with pytest.raises(UserError, match='no place for 2 tensors'):
            load_backbone(f'timm:{name}', tmp_path / 'a.pth')
