"""OpenMMLab's own APIs and tools run on this project's configs."""

import importlib
import re
import runpy
import sys
from pathlib import Path

# Frameworks first: conftest.py keeps what is there out of collections.
import mmdet.apis  # noqa: F401, I001
import mmseg.apis  # noqa: F401
import pytest
import torch
from matplotlib import pyplot
from mmengine.utils import digit_version

from pixcon_mm.checkpoint.run_checkpoint import list_checkpoints
from pixcon_mm.config import load_config
from pixcon_mm.engine import PixConRunner
from tests import recipes, toy
from tests.test_datasets.pictures import write_pictures
from tests.test_models import tiny


@pytest.fixture
def image(tmp_path):
    return str(next(write_pictures(tmp_path / 'images', 1).glob('*')))


@pytest.mark.parametrize('name', recipes.list_recipes('segmentation'))
def test_inference_takes_the_pipeline_of_the_test(name):
    """MMSegmentation's inference_model reads ``test_pipeline``."""
    cfg = recipes.load(name)
    assert cfg.test_pipeline == cfg.test_dataloader.dataset.pipeline
    assert cfg.test_pipeline == cfg.val_dataloader.dataset.pipeline


def test_detector(detector, image, tmp_path):
    config, checkpoint = map(str, detector)
    model = mmdet.apis.init_detector(config, checkpoint, device='cpu')
    found = mmdet.apis.inference_detector(model, image).pred_instances
    inferencer = mmdet.apis.DetInferencer(config, checkpoint, device='cpu')
    again = inferencer(image, out_dir=str(tmp_path), return_datasamples=True)
    (sample,) = again['predictions']
    assert len(found.scores)
    assert torch.equal(sample.pred_instances.scores, found.scores)
    assert len([*(tmp_path / 'vis').iterdir()]) == 1


def test_segmentor(segmentor, image, tmp_path):
    config, checkpoint = map(str, segmentor)
    model = mmseg.apis.init_model(config, checkpoint, device='cpu')
    found = mmseg.apis.inference_model(model, image).pred_sem_seg.data[0]
    inferencer = mmseg.apis.MMSegInferencer(config, checkpoint, device='cpu')
    labels = inferencer(image, out_dir=str(tmp_path))['predictions']
    assert (found.numpy() == labels).all()
    assert len([*(tmp_path / 'vis').iterdir()]) == 1


def test_features_of_a_pretrained_backbone(image, tmp_path):
    cfg = recipes.load('pretrain/pixcon_r18_demo')
    cfg.model.queue_len = 8
    mmpretrain = importlib.import_module('mmpretrain')
    with toy.framework_state():
        model = mmpretrain.get_model(cfg)
        torch.save(dict(state_dict=model.state_dict()), tmp_path / 'a.pth')
        extract = mmpretrain.FeatureExtractor(
            cfg, pretrained=str(tmp_path / 'a.pth'), device='cpu'
        )
        ((features,),) = extract(image)
    assert features.shape == (256, 14, 14)
    assert features.std() > 0


def test_preprocessor_normalises_whole_images():
    preprocessor = tiny.build().data_preprocessor
    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    data = dict(inputs=images, data_samples=[None, None])
    found = preprocessor(data, False)['inputs']
    views = tiny.batch(size=2, pixels=8)
    views['inputs'] = [images, images]
    expected = preprocessor(views, True)['inputs'][0]
    torch.testing.assert_close(found, expected)


def tool(framework, name, *words, monkeypatch):
    """Run a tool that a framework's package brings along."""
    package = Path(importlib.import_module(framework).__file__).parent
    path = package / '.mim/tools' / name
    if not path.is_file():
        pytest.skip(f'this {framework} comes without its tools')
    monkeypatch.setattr(sys, 'argv', [str(path), *map(str, words)])
    runpy.run_path(str(path), run_name='__main__')


@pytest.fixture
def config(request):
    """A small config of a framework; nothing in it is trained."""
    kind = dict(mmdet='detector', mmseg='segmentor', mmpretrain='pretraining')
    name = kind[request.getfixturevalue('framework')]
    if name == 'pretraining':
        return recipes.path_of('pretrain/pixcon_r18_demo')
    return request.getfixturevalue(name)[0]


@pytest.mark.slow
@pytest.mark.parametrize('framework', ['mmdet', 'mmseg', 'mmpretrain'])
@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        ('misc/print_config.py', "name='visualizer'"),
        ('analysis_tools/get_flops.py', r'Flops: +\d(.|\n)*Params: +\d'),
    ],
    ids=['print_config', 'get_flops'],
)
def test_tools_that_print(
    framework, config, name, expected, monkeypatch, capsys, tmp_path
):
    monkeypatch.chdir(tmp_path)  # print_config writes example.py
    size = []
    if 'flops' in name and framework != 'mmdet':
        size = ['--shape', '64', '64']
    tool(framework, name, config, *size, monkeypatch=monkeypatch)
    assert re.search(expected, capsys.readouterr().out)


@pytest.mark.slow
@pytest.mark.parametrize('framework', ['mmdet', 'mmseg'])
def test_browse_dataset(framework, config, tmp_path, monkeypatch):
    name = 'analysis_tools/browse_dataset.py'
    options = ['--not-show', '--output-dir', tmp_path]
    tool(framework, name, config, *options, monkeypatch=monkeypatch)
    assert len([*tmp_path.glob('*.jpg')]) == 4


@pytest.mark.parametrize('framework', ['mmdet', 'mmpretrain'])
def test_analyze_logs(framework, tmp_path, monkeypatch):
    """They find what they draw in the log of one of our runs."""
    options = dict(work_dir=str(tmp_path / 'run'))
    PixConRunner.from_cfg(
        load_config(str(toy.write_config(tmp_path)), options)
    ).train()
    (log,) = tmp_path.glob('run/*/vis_data/scalars.json')
    out = tmp_path / 'loss.png'
    words = ['plot_curve', log, '--keys', 'loss', 'loss_image', '--out', out]
    if framework == 'mmdet':
        if digit_version(mmdet.__version__) < digit_version('3.4'):
            pytest.importorskip('seaborn', reason='MMDetection 3.3 needs it')
        else:  # Matplotlib has no style of its default's name
            words += ['--style', 'ggplot']
    name = 'analysis_tools/analyze_logs.py'
    with pyplot.rc_context():  # its style is only for this test
        tool(framework, name, *words, monkeypatch=monkeypatch)
    pyplot.close('all')
    assert out.stat().st_size


@pytest.mark.slow
@pytest.mark.parametrize('framework', ['mmdet', 'mmseg'])
def test_train_and_test(framework, config, tmp_path, monkeypatch, capsys):
    """Their train.py fine-tunes, and resumes, with this project's runner."""
    words = [config, '--work-dir', tmp_path]
    for iterations in 2, 3:
        options = ['--cfg-options', f'train_cfg.max_iters={iterations}']
        tool(framework, 'train.py', *words, *options, monkeypatch=monkeypatch)
        words = [*words[:3], '--resume']
    names = [path.name for path in list_checkpoints(tmp_path)]
    assert names == ['iter_2.pth', 'iter_3.pth']
    words = [config, tmp_path / 'iter_3.pth', '--work-dir', tmp_path]
    capsys.readouterr()
    tool(framework, 'test.py', *words, monkeypatch=monkeypatch)
    metric = dict(mmdet='coco/bbox_mAP: ', mmseg='mIoU: ')[framework]
    assert metric in capsys.readouterr().out
