"""The main recipe under torchrun: trained, resumed, exported, evaluated."""

import json
import math
import shutil

import pytest
import torch
from torchvision.models import resnet50

from pixcon_mm.checkpoint.run_checkpoint import load_checkpoint
from pixcon_mm.config import load_config
from pixcon_mm.visualization.curves import read_records
from tests.commands import run
from tests.test_datasets.pictures import write_pictures
from tests.test_evaluation.trees import make_voc

RECIPE = 'configs/pretrain/pixcon_r50_coco.py'
DEVICES = [
    pytest.param('cpu', marks=pytest.mark.slow),
    pytest.param('cuda', marks=pytest.mark.gpu),
]
EPOCHS, STEPS, BATCH = 2, 3, 4


@pytest.fixture(scope='module', params=DEVICES)
def device(request):
    return request.param


@pytest.fixture(scope='module')
def launch(device, tmp_path_factory):
    """Train the recipe with all its settings on a few small pictures."""
    images = tmp_path_factory.mktemp('images')
    write_pictures(images, STEPS * BATCH, width=160, height=120)
    hidden = {'CUDA_VISIBLE_DEVICES': ''} if device == 'cpu' else {}

    def _launch(work_dir, *words):
        done = run(
            *('bash', 'tools/dist_train.sh', RECIPE, 1, '--work-dir'),
            *(work_dir, '--epochs', EPOCHS, *words, '--cfg-options'),
            *(f'data_root={images}', f'train_dataloader.batch_size={BATCH}'),
            'train_dataloader.num_workers=2',
            'default_hooks.checkpoint.interval=1',
            'default_hooks.logger.interval=1',
            **hidden,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    return _launch


@pytest.fixture(scope='module')
def work_dir(launch, tmp_path_factory):
    folder = tmp_path_factory.mktemp('run') / 'work'
    launch(folder)
    return folder


def test_trains_with_the_settings_of_the_recipe(work_dir):
    cfg = load_config(str(work_dir / 'pixcon_r50_coco.py'))
    assert cfg.model.channels_last
    assert cfg.model.data_preprocessor.compile_colors
    assert cfg.model.backbone.norm_cfg.type == 'SyncBN'
    assert cfg.optim_wrapper.dtype == 'float16'
    assert cfg.optim_wrapper.optimizer.fused
    assert cfg.model_wrapper_cfg.gradient_as_bucket_view
    assert cfg.model_wrapper_cfg.static_graph
    records = read_records(work_dir)
    assert [r['step'] for r in records] == [*range(1, EPOCHS * STEPS + 1)]
    assert all(math.isfinite(r['loss']) for r in records)
    state = load_checkpoint(work_dir / f'epoch_{EPOCHS}.pth')['state_dict']
    # The rest of the queue is as long as the recipe's.
    assert state['image_queue.features'].shape == (65536, 128)
    assert all(v.isfinite().all() for v in state.values())


def test_resumes(launch, work_dir, device, tmp_path):
    broken = tmp_path / 'work'
    broken.mkdir()
    shutil.copy(work_dir / 'epoch_1.pth', broken)
    (broken / 'last_checkpoint').write_text(str(broken / 'epoch_1.pth'))
    launch(broken, '--resume')
    ours, theirs = read_records(broken), read_records(work_dir)[STEPS:]
    assert [r['step'] for r in ours] == [r['step'] for r in theirs]
    assert [r['lr'] for r in ours] == [r['lr'] for r in theirs]
    ends = [
        load_checkpoint(folder / f'epoch_{EPOCHS}.pth')
        for folder in (broken, work_dir)
    ]
    assert ends[0]['meta']['iter'] == ends[1]['meta']['iter']
    # Sums of a GPU have no fixed order, and steps magnify it.
    close = 0.0 if device == 'cpu' else 0.05
    for name, value in ends[1]['state_dict'].items():
        if value.is_floating_point() and 'queue' not in name:
            difference = (ends[0]['state_dict'][name] - value).norm()
            assert difference <= close * value.norm() + close * 1e-3, name


def test_exported_features_are_the_cpus(work_dir, device, tmp_path):
    out = tmp_path / 'r50.pth'
    done = run(
        *('tools/export_backbone.py', work_dir / f'epoch_{EPOCHS}.pth'),
        *('--format', 'torchvision', '--out', out),
    )
    assert done.returncode == 0, done.stderr
    network = resnet50()
    network.load_state_dict(torch.load(out), strict=False)
    network.fc = torch.nn.Identity()
    images = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        expected = network.double().eval()(images.double())
        features = network.float().to(device)(images.to(device))
    error = (features.cpu().double() - expected).norm() / expected.norm()
    # TF32, which cuDNN uses by default, has ten bits.
    assert error < (1e-5 if device == 'cpu' else 1e-2)


@pytest.mark.parametrize('device', DEVICES[1:], indirect=True)
def test_dense_evaluation_is_the_cpus(work_dir, tmp_path):
    voc = make_voc(tmp_path / 'voc', train=8)
    results = []
    for place in ('cuda', 'cpu'):
        out = tmp_path / f'{place}.json'
        done = run(
            *('tools/evaluate_dense.py', 'resnet50', '--pretrained'),
            *(work_dir / f'epoch_{EPOCHS}.pth', '--data', voc, '--out', out),
            *('--size', 64, 96, '--crop-size', 64, '--workers', 0),
            *('--device', place),
        )
        assert done.returncode == 0, done.stderr
        results.append(json.loads(out.read_text())['results'])
    ours, theirs = results
    miou = [r['knn']['shares']['1/1']['miou'] for r in results]
    assert miou[0] == pytest.approx(miou[1], abs=3)
    recall = 'recall_within_1_cell'
    assert ours['correspondence'][recall] == pytest.approx(
        theirs['correspondence'][recall], abs=0.05
    )
