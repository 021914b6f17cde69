"""Probes and pictures of features during pre-training, through real runs."""

import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dist import barrier
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import (
    EventAccumulator,
)

from pixcon_mm.checkpoint.run_checkpoint import load_checkpoint
from pixcon_mm.checkpoint.torch_file import load_torch_file
from pixcon_mm.config import load_config
from pixcon_mm.engine import PixConRunner
from pixcon_mm.engine.hooks import dense_probe_hook
from pixcon_mm.engine.hooks.match_picture_hook import MatchPictureHook
from pixcon_mm.errors import UserError
from pixcon_mm.evaluation import correspondence, nearest_neighbors
from pixcon_mm.evaluation.nearest_neighbors import Memory
from pixcon_mm.visualization.curves import read_records
from tests import ROOT
from tests.commands import run, scalars
from tests.test_datasets.pictures import write_pictures
from tests.test_evaluation.trees import make_own, make_voc
from tests.test_models import tiny

# Of docs/evaluation.md, for every recipe.
LINES = next(
    block
    for block in re.findall(
        r'^```python\n(.*?)^```$',
        (ROOT / 'docs/evaluation.md').read_text(),
        re.MULTILINE | re.DOTALL,
    )
    if 'MatchPictureHook' in block
)
RECALL, NEAR = 'probe_recall_at_1', 'probe_recall_within_1_cell'


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Twelve images and a broken one, and a labelled tree."""
    folder = tmp_path_factory.mktemp('features')
    write_pictures(folder / 'images', 12, width=80, height=60)
    (folder / 'images/broken.jpg').write_bytes(b'no image')
    make_voc(folder / 'voc', train=3, val=2)
    return folder


@pytest.fixture
def config(folder, tmp_path):
    """A recipe with both hooks, with the tiny model."""
    path = tmp_path / 'drawn.py'
    recipe = ROOT / 'configs/pretrain/pixcon_r50_coco.py'
    path.write_text(LINES.replace('./pixcon_r50_coco.py', str(recipe)))
    cfg = load_config(str(path), dict(data_root=f'{folder}/images'))
    cfg.model = tiny.model_config()
    cfg.train_dataloader.update(
        batch_size=4, num_workers=0, persistent_workers=False
    )
    for step in cfg.train_dataloader.dataset.pipeline:
        if step['type'] == 'TwoViewRandomResizedCrop':
            step['scale'] = 64
    cfg.train_cfg.max_epochs = 3
    cfg.default_hooks.logger.interval = 1
    cfg.default_hooks.checkpoint.interval = 1
    cfg.default_hooks.match_pictures.update(interval=2, num_images=1)
    cfg.default_hooks.dense_probe.data_root = f'{folder}/voc'
    cfg.default_hooks.dense_probe.update(
        interval=2, num_images=6, crop_size=64, size=64
    )
    return cfg


def train(cfg, work_dir):
    cfg = Config(dict(cfg.to_dict(), work_dir=str(work_dir)))
    PixConRunner.from_cfg(cfg).train()
    return scalars(work_dir)


def assert_equal(first, second):
    for name, tensor in first['state_dict'].items():
        assert torch.equal(tensor, second['state_dict'][name]), name


def test_a_probed_and_drawn_run_is_the_same_and_keeps_its_best(
    config, tmp_path
):
    found = train(config, tmp_path / 'with')
    plain = Config(config.to_dict())
    for name in ('dense_probe', 'match_pictures'):
        del plain.default_hooks[name]
    del plain.default_hooks.checkpoint['save_best']
    without = train(plain, tmp_path / 'without')
    losses = [record['loss'] for record in without]
    assert [r['loss'] for r in found if 'loss' in r] == losses
    assert_equal(
        load_checkpoint(tmp_path / 'with/epoch_3.pth'),
        load_checkpoint(tmp_path / 'without/epoch_3.pth'),
    )

    probes = [record for record in found if 'probe_miou' in record]
    assert [p['epoch'] for p in probes] == [2, 3]
    assert [p['step'] for p in probes] == [6, 9]
    for probe in probes:
        assert 0 <= probe[RECALL] <= probe[NEAR] <= 1
        assert 0 <= probe['probe_miou'] <= 100
    (best,) = (tmp_path / 'with').glob('best_*.pth')
    score = max(p[RECALL] for p in probes)
    epoch = next(p['epoch'] for p in probes if p[RECALL] == score)
    assert best.name == f'best_probe_recall_at_1_epoch_{epoch}.pth'
    regular = load_checkpoint(tmp_path / 'with' / f'epoch_{epoch}.pth')
    kept = load_torch_file(best)
    assert kept['meta']['epoch'] == regular['meta']['epoch'] == epoch
    assert_equal(regular, kept)
    # Curves have the values where they were measured.
    drawn = read_records(tmp_path / 'with')
    assert [r['step'] for r in drawn if 'probe_miou' in r] == [6, 9]

    (data,) = (tmp_path / 'with').glob('*/vis_data')
    names = ['crops_1', 'matches_1', 'weights_1']
    files = {path.name for path in (data / 'vis_image').iterdir()}
    assert files == {f'{name}_{step}.png' for name in names for step in (6, 9)}
    read = {f: np.array(Image.open(data / 'vis_image' / f)) for f in files}
    # The views are the same, the features are not.
    np.testing.assert_array_equal(read['crops_1_6.png'], read['crops_1_9.png'])
    assert (read['weights_1_6.png'] != read['weights_1_9.png']).any()
    events = EventAccumulator(str(data), size_guidance=dict(images=0))
    events.Reload()
    assert set(events.Tags()['images']) == set(names)
    assert [e.step for e in events.Images('matches_1')] == [6, 9]


def test_a_probe_of_own_masks(config, tmp_path):
    root = make_own(tmp_path / 'own', values=(9, 0, 4))
    config.default_hooks.pop('match_pictures')
    config.train_cfg.max_epochs = 1
    probe = config.default_hooks.dense_probe
    probe.update(data_root=str(root), classes=('a', 'b'), mask_values=(9, 4))
    found = train(config, tmp_path / 'own masks')
    probe.pop('mask_values')
    names = ['background', 'bicycle']
    make_voc(tmp_path / 'voc')
    probe.update(data_root=str(tmp_path / 'voc'), classes=names)
    expected = train(config, tmp_path / 'voc tree')
    assert found[-1]['probe_miou'] == expected[-1]['probe_miou']


@pytest.mark.parametrize(
    ('hook', 'change', 'sentence'),
    [
        ('dense_probe', dict(interval=0), 'at least 1'),
        ('dense_probe', dict(mask_values=(0, 9)), 'masks of your own'),
        ('dense_probe', dict(crop_size=60), 'crop_size 60 60'),
        ('dense_probe', dict(data_root='/no'), '/no does not exist'),
        ('match_pictures', dict(num_images=0), 'at least 1'),
        ('match_pictures', dict(interval=0), 'at least 1'),
        ('checkpoint', dict(save_best='probe_miou'), 'miou with a data_root'),
    ],
)
def test_mistakes_are_found_at_the_start(
    hook, change, sentence, config, tmp_path
):
    config.default_hooks[hook].update(change)
    if hook == 'checkpoint':
        del config.default_hooks.dense_probe['data_root']
    with pytest.raises(UserError, match=sentence):
        train(config, tmp_path / 'run')
    assert not scalars(tmp_path / 'run')


def test_pictures_of_other_methods_are_refused(config, tmp_path):
    other = ROOT / 'configs/pretrain/densecl_r18-w32_small.py'
    config.model = load_config(str(other)).model
    for name in ('key_encoder', 'dense_probe'):
        config.default_hooks.pop(name)
    with pytest.raises(UserError, match='this model is a DenseCL'):
        train(config, tmp_path / 'run')


@HOOKS.register_module()
class DamageHook(Hook):
    """Cut images short after the first epoch."""

    def __init__(self, paths=(), with_drawn=False):
        self.paths, self.with_drawn = paths, with_drawn

    def after_train_epoch(self, runner):
        paths = [*map(Path, self.paths)]
        for hook in runner.hooks if self.with_drawn else ():
            if isinstance(hook, MatchPictureHook):
                paths += hook._paths
        if runner.rank == 0 and runner.epoch == 0:
            for path in paths:
                path.write_bytes(path.read_bytes()[:300])
        barrier()


def test_a_training_outlives_the_images_of_its_hooks(config, tmp_path):
    images = shutil.copytree(config.data_root, tmp_path / 'images')
    probe = config.default_hooks.dense_probe
    voc = shutil.copytree(probe.data_root, tmp_path / 'voc')
    config.train_dataloader.dataset.data_root = str(images)
    probe.data_root = str(voc)
    config.custom_hooks = [
        dict(
            type='DamageHook',
            paths=[str(path) for path in voc.rglob('*.jpg')],
            with_drawn=True,
        )
    ]
    train(config, tmp_path / 'run')
    assert (tmp_path / 'run/epoch_3.pth').is_file()
    (log,) = (tmp_path / 'run').glob('*/*.log')
    for epoch in (2, 3):
        for what in ('probe', 'pictures'):
            words = f'WARNING - no {what} after epoch {epoch}: '
            assert words in log.read_text()
    # At the start of a run it is an error.
    with pytest.raises(UserError, match='an evaluation needs every image'):
        train(config, tmp_path / 'second')


@pytest.mark.parametrize('hook', ['dense_probe', 'match_pictures'])
def test_runs_in_iterations_are_refused(hook, config, tmp_path):
    (other,) = {'dense_probe', 'match_pictures'} - {hook}
    del config.default_hooks[other]
    config.default_hooks.checkpoint = dict(type='CheckpointHook')
    config.train_cfg = dict(type='IterBasedTrainLoop', max_iters=3)
    with pytest.raises(UserError, match='this run counts iterations'):
        train(config, tmp_path / 'run')


def test_pictures_of_joined_data_sets_are_refused(config, tmp_path):
    dataset = config.train_dataloader.dataset
    config.train_dataloader.dataset = dict(
        type='ConcatDataset', datasets=[dataset, dataset]
    )
    del config.default_hooks['dense_probe'], config.default_hooks.checkpoint
    with pytest.raises(UserError, match='ConcatDataset has none: give sev'):
        train(config, tmp_path / 'run')


@pytest.mark.slow
def test_two_processes_share_the_images_and_a_resumed_run_goes_on(
    config, tmp_path
):
    del config.default_hooks['match_pictures']
    config.default_hooks.dense_probe.interval = 1
    config.dump(tmp_path / 'dumped.py')
    work_dir = tmp_path / 'run'
    words = ['bash', 'tools/dist_train.sh', tmp_path / 'dumped.py', 2]
    words += ['--work-dir', work_dir]
    done = run(*words)
    assert done.returncode == 0, done.stderr
    whole = [r for r in scalars(work_dir) if 'probe_miou' in r]
    assert [r['epoch'] for r in whole] == [1, 2, 3]

    # The same again from the first epoch on.
    broken = tmp_path / 'broken'
    broken.mkdir()
    shutil.copy(work_dir / 'epoch_1.pth', broken)
    words[-1] = broken
    done = run(*words, '--resume')
    assert done.returncode == 0, done.stderr
    resumed = [r for r in scalars(broken) if 'probe_miou' in r]
    for ours, theirs in zip(resumed, whole[1:], strict=True):
        del ours['probe_seconds'], theirs['probe_seconds']
        assert ours == theirs

    # An image of the second process is damaged; the first does not wait.
    probe = config.default_hooks.dense_probe
    voc = shutil.copytree(probe.data_root, tmp_path / 'voc')
    probe.data_root = str(voc)
    path = str(voc / 'JPEGImages/val1.jpg')
    config.custom_hooks = [dict(type='DamageHook', paths=[path])]
    config.custom_imports.imports.append(__name__)
    config.dump(tmp_path / 'dumped.py')
    words[-1] = tmp_path / 'damaged'
    done = run(*words, timeout=100)
    assert done.returncode == 0, done.stderr
    assert 'WARNING no probe after epoch 3: ' in done.stdout
    assert (words[-1] / 'epoch_3.pth').is_file()


def test_the_labelled_images_of_a_probe_are_evenly_spaced(monkeypatch):
    """Lists are sorted: by city in Cityscapes, by scene in ADE20K."""

    class Labelled(list):
        classes = ('cat',)

    taken = []

    def build_memory(backbone, data, indices, *rest, **others):
        taken.append(indices)
        return Memory(torch.zeros(1, 2), torch.zeros(1, 1))

    def segment(backbone, data, indices, *rest, **others):
        taken.append(indices)
        return torch.ones(1, 1).long()

    monkeypatch.setattr(dense_probe_hook, 'LABELLED', 4)
    monkeypatch.setattr(nearest_neighbors, 'build_memory', build_memory)
    monkeypatch.setattr(nearest_neighbors, 'segment', segment)
    monkeypatch.setattr(
        correspondence, 'match', lambda *a, **k: torch.zeros(5)
    )
    hook = dense_probe_hook.DenseProbeHook()
    hook._pairs, hook._labelled = [], [Labelled(range(10)), Labelled(range(3))]
    backbone = SimpleNamespace(mean=torch.zeros(1))
    for rank in range(2):
        hook._measure(backbone, rank, world_size=2)
    assert taken == [[0, 6], [0, 2], [3, 9], [1]]
