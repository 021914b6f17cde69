"""Tests of the probe of features during pre-training, through real runs."""

import json
import shutil

import pytest
import torch
from mmengine.config import Config

from pixcon_mm.checkpoint.run_checkpoint import load_checkpoint
from pixcon_mm.checkpoint.torch_file import load_torch_file
from pixcon_mm.config import load_config
from pixcon_mm.engine import PixConRunner
from pixcon_mm.errors import UserError
from pixcon_mm.visualization.curves import read_records
from tests import ROOT
from tests.commands import run
from tests.test_datasets.pictures import write_pictures
from tests.test_evaluation.trees import make_voc
from tests.test_models import tiny

BOTH = ('probe_recall_at_1', 'probe_recall_within_1_cell')
CHECKPOINT = dict(save_best='probe_recall_at_1', rule='greater')


@pytest.fixture(scope='module')
def images(tmp_path_factory):
    folder = tmp_path_factory.mktemp('probe') / 'images'
    write_pictures(folder, 12, width=80, height=60)
    (folder / 'broken.jpg').write_bytes(b'no image')
    return folder


@pytest.fixture
def config(images, tmp_path):
    """A recipe with the probe, as of the command line, with the tiny model."""

    def build(**probe):
        recipe = ROOT / 'configs/pretrain/pixcon_r50_coco.py'
        option = {'default_hooks.dense_probe.type': 'DenseProbeHook'}
        cfg = load_config(str(recipe), option)
        cfg.model = tiny.model_config()
        cfg.train_dataloader.update(
            batch_size=4, num_workers=0, persistent_workers=False
        )
        cfg.train_dataloader.dataset.data_root = str(images)
        for step in cfg.train_dataloader.dataset.pipeline:
            if step['type'] == 'TwoViewRandomResizedCrop':
                step['scale'] = 64
        cfg.train_cfg.max_epochs = 3
        cfg.default_hooks.logger.interval = 1
        cfg.default_hooks.checkpoint.update(interval=1, **CHECKPOINT)
        cfg.default_hooks.dense_probe.update(
            interval=2, num_images=6, crop_size=64, size=64, **probe
        )
        return cfg

    return build


def train(cfg, work_dir):
    cfg = Config(dict(cfg.to_dict(), work_dir=str(work_dir)))
    PixConRunner.from_cfg(cfg).train()
    return records(work_dir)


def records(work_dir):
    return [
        json.loads(line)
        for path in sorted(work_dir.glob('*/vis_data/scalars.json'))
        for line in path.read_text().splitlines()
    ]


def test_a_probed_run_is_the_same_and_keeps_its_best(config, tmp_path):
    cfg = config(data_root=str(make_voc(tmp_path / 'voc', train=3, val=2)))
    found = train(cfg, tmp_path / 'with')
    plain = Config(cfg.to_dict())
    del plain.default_hooks['dense_probe']
    del plain.default_hooks.checkpoint['save_best']
    without = train(plain, tmp_path / 'without')
    assert [r['loss'] for r in found if 'loss' in r] == [
        r['loss'] for r in without
    ]
    last = [
        load_checkpoint(tmp_path / name / 'epoch_3.pth')['state_dict']
        for name in ('with', 'without')
    ]
    for name, tensor in last[0].items():
        assert torch.equal(tensor, last[1][name]), name

    probes = [record for record in found if 'probe_miou' in record]
    assert [p['epoch'] for p in probes] == [2, 3]
    assert [p['step'] for p in probes] == [6, 9]
    for probe in probes:
        assert 0 <= probe[BOTH[0]] <= probe[BOTH[1]] <= 1
        assert 0 <= probe['probe_miou'] <= 100
    (best,) = (tmp_path / 'with').glob('best_*.pth')
    score = max(p[BOTH[0]] for p in probes)
    epoch = next(p['epoch'] for p in probes if p[BOTH[0]] == score)
    assert best.name == f'best_probe_recall_at_1_epoch_{epoch}.pth'
    regular = load_checkpoint(tmp_path / 'with' / f'epoch_{epoch}.pth')
    kept = load_torch_file(best)
    assert kept['meta']['epoch'] == regular['meta']['epoch'] == epoch
    for name, tensor in regular['state_dict'].items():
        assert torch.equal(tensor, kept['state_dict'][name]), name
    # Curves have the values where they were measured.
    drawn = read_records(tmp_path / 'with')
    assert [r['step'] for r in drawn if 'probe_miou' in r] == [6, 9]


@pytest.mark.parametrize(
    ('probe', 'sentence'),
    [
        (dict(interval=0), 'at least 1'),
        (dict(crop_size=60), 'crop_size 60 60'),
        (dict(data_root='/no'), '/no does not exist'),
    ],
)
def test_mistakes_are_found_at_the_start(probe, sentence, config, tmp_path):
    cfg = config()
    cfg.default_hooks.dense_probe.update(probe)
    with pytest.raises(UserError, match=sentence):
        train(cfg, tmp_path / 'run')
    assert not records(tmp_path / 'run')


def test_a_best_value_that_is_not_measured_is_refused(config, tmp_path):
    cfg = config()
    cfg.default_hooks.checkpoint.save_best = 'probe_miou'
    with pytest.raises(UserError, match='probe_miou with a data_root'):
        train(cfg, tmp_path / 'run')


@pytest.mark.slow
def test_two_processes_share_the_images_and_a_resumed_run_goes_on(
    config, tmp_path
):
    voc = make_voc(tmp_path / 'voc', train=3, val=2)
    cfg = config(data_root=str(voc))
    cfg.default_hooks.dense_probe.interval = 1
    cfg.dump(tmp_path / 'dumped.py')
    work_dir = tmp_path / 'run'
    words = ['bash', 'tools/dist_train.sh', tmp_path / 'dumped.py', 2]
    words += ['--work-dir', work_dir]
    done = run(*words)
    assert done.returncode == 0, done.stderr
    whole = [r for r in records(work_dir) if 'probe_miou' in r]
    assert [r['epoch'] for r in whole] == [1, 2, 3]

    # The same again from the first epoch on.
    broken = tmp_path / 'broken'
    broken.mkdir()
    shutil.copy(work_dir / 'epoch_1.pth', broken)
    words[-1] = broken
    done = run(*words, '--resume')
    assert done.returncode == 0, done.stderr
    resumed = [r for r in records(broken) if 'probe_miou' in r]
    for ours, theirs in zip(resumed, whole[1:], strict=True):
        del ours['probe_seconds'], theirs['probe_seconds']
        assert ours == theirs
