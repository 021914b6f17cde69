"""The pictures and the page, through the tool's main."""

import shutil

import numpy as np
import pytest
import torch

from pixcon_mm.cli import read_config
from pixcon_mm.evaluation.backbones import load_backbone
from pixcon_mm.tools import visualize
from pixcon_mm.tools.visualize import main
from pixcon_mm.visualization.matching import build_model
from tests import ROOT
from tests.test_datasets.pictures import write_pictures
from tests.test_models import tiny
from tests.test_visualization.test_page import read

SMALL = ROOT / 'configs/pretrain/pixcon_r18-w32_small.py'
MASK_RCNN = ROOT / 'configs/detection/mask-rcnn_r18-fpn_demo.py'
MOCO = ROOT / 'configs/pretrain/mocov2plus_r18-w32_small.py'
KINDS = ['crops', 'matches', 'weights', 'similarity', 'pca', 'segments']


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp('visualize')
    write_pictures(folder / 'images', 3, width=96, height=64)
    return folder


@pytest.fixture(scope='module')
def checkpoint(folder):
    """Of pre-training, whose key encoder is not the query encoder."""
    cfg = read_config(str(SMALL))
    model, _ = build_model(cfg, seed=3)
    tiny.disturb(model.key_encoder)
    torch.save(dict(state_dict=model.state_dict()), folder / 'epoch_1.pth')
    return folder / 'epoch_1.pth'


@pytest.fixture
def seen(monkeypatch):
    """Weights of the models whose matches are drawn."""
    seen = []
    match = visualize.match_photographs

    def watch(model, *arguments):
        seen.append(model.state_dict())
        return match(model, *arguments)

    monkeypatch.setattr(visualize, 'match_photographs', watch)
    return seen


def test_all_figures_and_the_page(call, folder, checkpoint, seen):
    pytest.importorskip('faiss', reason='needs the extra "evaluation"')
    images, out = folder / 'images', folder / 'out'
    options = ('--max-images', '1', '--side', '64', '--clusters', '3')
    status, shown, _ = call(
        *(main, SMALL, '--images', images, '--pretrained', checkpoint),
        *('--out', out, *options),
    )
    assert status == 0
    # The whole model is the checkpoint's.
    for name, tensor in torch.load(checkpoint)['state_dict'].items():
        if 'queue' not in name:
            assert torch.equal(seen[0][name], tensor), name
    files = [f'{kind}_000.png' for kind in KINDS[:4]]
    files += ['pca.png', 'segments.png', 'index.html']
    assert sorted(p.name for p in out.iterdir()) == sorted(files)
    page = read((out / 'index.html').read_text())
    pictures = [r for r in page.references if r.startswith('data:image')]
    assert len(pictures) == 6
    assert str(checkpoint) in page.text
    assert all(f'{part}: ' in shown for part in ('neck', 'key_encoder'))


def test_all_figures_of_random_weights_are_of_one_network(call, folder, seen):
    status, *_ = call(
        *(main, SMALL, '--images', folder / 'images', '--pretrained', 'none'),
        *('--figures', 'matches', '--max-images', '1', '--seed', '4'),
        *('--out', folder / 'random'),
    )
    assert status == 0
    (matched,) = seen
    net = load_backbone(str(SMALL), 'none', seed=4).net
    for name, tensor in net.state_dict().items():
        assert torch.equal(matched[f'backbone.{name}'], tensor), name
        assert torch.equal(matched[f'key_encoder.backbone.{name}'], tensor)


def test_every_figure_has_a_file_whatever_the_names(call, folder, tmp_path):
    """Two names differ in a slash, and one has a byte that is not UTF-8."""
    images, out = tmp_path / 'images', tmp_path / 'out'
    (images / 'a').mkdir(parents=True)
    for name in ('a_b.png', 'a/b.png', 'caf\udce9.png'):
        shutil.copy(folder / 'images/000.png', images / name)
    status, *_ = call(
        *(main, 'timm:resnet10t', '--images', images, '--pretrained', 'none'),
        *('--figures', 'pca', 'similarity', '--point', '0.9', '0.1'),
        *('--side', '64', '--out', out),
    )
    assert status == 0
    assert len([*out.rglob('*.png')]) == 4
    assert (out / 'a/similarity_b.png').is_file()
    page = (out / 'index.html').read_text(encoding='utf-8')
    assert r'caf\udce9' in page


@pytest.mark.parametrize(
    'words', [['--browse'], ['--pretrained', 'none', '--figures', 'pca']]
)
def test_damaged_images_are_left_out_and_named(call, folder, tmp_path, words):
    images = tmp_path / 'images'
    shutil.copytree(folder / 'images', images)
    content = (images / '001.png').read_bytes()
    (images / '001.png').write_bytes(content[: len(content) // 2])
    words = [*words, '--out', tmp_path / 'out', '--side', '64']
    status, _, error = call(main, SMALL, '--images', images, *words)
    assert status == 0
    assert '001.png' in error
    assert '1 of 3 images' in error
    assert (tmp_path / 'out/index.html').is_file()
    status, _, error = call(
        main, SMALL, '--images', images / '001.png', *words
    )
    assert status == 1
    assert 'None of the images can be read' in error


@pytest.mark.parametrize(
    'words', [['--browse'], ['--pretrained', 'none', '--figures', 'crops']]
)
def test_images_without_two_crops_are_left_out(call, folder, tmp_path, words):
    images = tmp_path / 'images'
    shutil.copytree(folder / 'images', images)
    write_pictures(tmp_path / 'thin', 1, width=3000, height=2)
    thin = images / 'thin.png'
    (tmp_path / 'thin/000.png').rename(thin)
    words = [*words, '--images', images, '--out', tmp_path / 'out']
    status, _, error = call(main, SMALL, *words)
    assert status == 0
    assert f'warning: {thin}: two crops did not overlap' in error
    assert (tmp_path / 'out/index.html').is_file()


def test_browse_shows_what_the_model_gets(call, folder, monkeypatch):
    """The views of the config's data set, with colours changed."""
    config = folder / 'own.py'
    config.write_text(f'_base_ = ["{SMALL}"]\ndata_root = "{folder}/images"\n')
    drawn, draw = [], visualize.browse_figure

    def watch(views, names):
        drawn.append(views)
        return draw(views, names)

    monkeypatch.setattr(visualize, 'browse_figure', watch)
    status, *_ = call(main, config, '--browse', '--out', folder / 'browse')
    assert status == 0
    assert (folder / 'browse/views.png').is_file()
    (views,) = drawn
    assert views.shape == (3, 3, 2, 64, 64, 3)
    model, pipeline = build_model(read_config(str(config)), 0)
    sample = visualize.make_views(pipeline, folder / 'images/001.png', 2)
    batch = visualize.default_collate([sample])
    inputs = model.data_preprocessor(batch, True)['inputs']
    mean, std = model.data_preprocessor.mean, model.data_preprocessor.std
    for i, view in enumerate(inputs):
        pixels = (view[0] * std + mean).permute(1, 2, 0)
        np.testing.assert_allclose(views[1, 2, i], pixels, atol=0.51)


def test_options_change_the_config(call, folder, seen, tmp_path):
    """The images and both networks, which must be equal, are the options'."""
    options = (f'data_root={folder}/images', 'model.backbone.depth=34')
    status, *_ = call(
        *(main, SMALL, '--pretrained', 'none', '--figures', 'matches', 'pca'),
        *('--max-images', '1', '--side', '64', '--out', tmp_path),
        *('--cfg-options', *options),
    )
    assert status == 0
    (matched,) = seen
    assert 'backbone.layer1.2.conv1.weight' in matched
    page = read((tmp_path / 'index.html').read_text())
    assert 'model.backbone.depth=34' in page.text


@pytest.mark.parametrize(
    ('words', 'sentence'),
    [
        (['--pretrained', 'none', '--browse'], 'either --pretrained or'),
        ([], 'either --pretrained or --browse'),
        (['--browse', '--point', '1', '0'], 'from 0 to below 1'),
        (['--browse', '--side', '0'], 'at least 1'),
    ],
)
def test_wrong_options(call, folder, words, sentence):
    status, _, error = call(main, SMALL, *words)
    assert status == 2
    assert sentence in error


@pytest.mark.parametrize(
    ('arch', 'words', 'sentence'),
    [
        (SMALL, ['--images', '/no'], 'There is no image or folder /no'),
        ('resnet18', [], 'resnet18 names no images'),
        ('resnet18', ['--figures', 'crops'], 'resnet18 has similarity, pca'),
        (MASK_RCNN, ['--figures', 'crops'], 'demo.py has similarity, pca'),
        (MOCO, ['--figures', 'weights'], 'small.py has crops, matches, sim'),
        (MASK_RCNN, ['--browse'], 'makes no views'),
        ('resnet18', ['--browse'], '--browse needs a config'),
        (
            *(SMALL, ['--cfg-options', 'data_root=/no']),
            "folder '/no' does not exist.\nAny folder of images",
        ),
    ],
)
def test_errors_are_sentences(call, folder, arch, words, sentence):
    if 'image' not in sentence:
        words = [*words, '--images', folder / 'images']
    if '--browse' not in words:
        words = [*words, '--pretrained', 'none']
    status, _, error = call(main, arch, *words, '--out', folder / 'errors')
    assert status == 1
    assert error.startswith('error: ')
    assert sentence in error
