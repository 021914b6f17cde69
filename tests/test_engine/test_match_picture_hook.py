"""Pictures during a real pre-training, in all backends of its visualizer."""

import json
import re

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import (
    EventAccumulator,
)

from pixcon_mm.checkpoint.run_checkpoint import load_checkpoint
from pixcon_mm.config import load_config
from pixcon_mm.engine import PixConRunner
from pixcon_mm.errors import UserError
from tests import ROOT
from tests.test_datasets.pictures import write_pictures
from tests.test_evaluation.trees import make_voc
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


@pytest.fixture
def config(tmp_path):
    """A recipe with the hook and the probe, with the tiny model."""
    voc = make_voc(tmp_path / 'voc', train=2, val=1)
    folder = write_pictures(tmp_path / 'images', 8, width=80, height=60)
    path = tmp_path / 'drawn.py'
    recipe = ROOT / 'configs/pretrain/pixcon_r50_coco.py'
    path.write_text(LINES.replace('./pixcon_r50_coco.py', str(recipe)))
    cfg = load_config(str(path), dict(data_root=str(folder)))
    cfg.model = tiny.model_config()
    cfg.train_dataloader.update(
        batch_size=4, num_workers=0, persistent_workers=False
    )
    for step in cfg.train_dataloader.dataset.pipeline:
        if step['type'] == 'TwoViewRandomResizedCrop':
            step['scale'] = 64
    cfg.train_cfg.max_epochs = 2
    cfg.default_hooks.logger.interval = 1
    cfg.default_hooks.match_pictures.update(interval=1, num_images=1)
    cfg.default_hooks.dense_probe.update(
        interval=1, num_images=2, crop_size=64, size=64, data_root=str(voc)
    )
    return cfg


def train(cfg, work_dir):
    cfg = Config(dict(cfg.to_dict(), work_dir=str(work_dir)))
    PixConRunner.from_cfg(cfg).train()
    (scalars,) = work_dir.glob('*/vis_data/scalars.json')
    records = map(json.loads, scalars.read_text().splitlines())
    return scalars.parent, [r['loss'] for r in records if 'loss' in r]


def test_a_run_with_pictures_is_the_same(config, tmp_path):
    data, losses = train(config, tmp_path / 'with')
    plain = Config(config.to_dict())
    del plain.default_hooks['match_pictures']
    del plain.default_hooks['dense_probe']
    del plain.default_hooks.checkpoint['save_best']
    assert train(plain, tmp_path / 'without')[1] == losses
    last = [
        load_checkpoint(tmp_path / name / 'epoch_2.pth')['state_dict']
        for name in ('with', 'without')
    ]
    for name, tensor in last[0].items():
        assert torch.equal(tensor, last[1][name]), name

    # The probe of the same recipe kept the best epoch.
    assert len([*(tmp_path / 'with').glob('best_probe_*.pth')]) == 1
    # After each epoch of 2 iterations.
    names = ['crops_1', 'matches_1', 'weights_1']
    files = {path.name for path in (data / 'vis_image').iterdir()}
    assert files == {f'{name}_{step}.png' for name in names for step in (2, 4)}
    read = {f: np.array(Image.open(data / 'vis_image' / f)) for f in files}
    # The views are the same, the features are not.
    np.testing.assert_array_equal(read['crops_1_2.png'], read['crops_1_4.png'])
    assert (read['weights_1_2.png'] != read['weights_1_4.png']).any()
    events = EventAccumulator(str(data), size_guidance=dict(images=0))
    events.Reload()
    assert set(events.Tags()['images']) == set(names)
    assert [e.step for e in events.Images('matches_1')] == [2, 4]


@pytest.mark.parametrize(
    ('change', 'sentence'),
    [
        (dict(num_images=0), 'at least 1'),
        (dict(interval=0), 'at least 1'),
    ],
)
def test_impossible_settings(change, sentence, config, tmp_path):
    config.default_hooks.match_pictures.update(change)
    with pytest.raises(UserError, match=sentence):
        train(config, tmp_path / 'run')


def test_other_methods_are_refused(config, tmp_path):
    other = load_config(
        str(ROOT / 'configs/pretrain/densecl_r18-w32_small.py')
    )
    config.model = other.model
    for name in ('key_encoder', 'dense_probe'):
        config.default_hooks.pop(name)
    with pytest.raises(UserError, match='this model is a DenseCL'):
        train(config, tmp_path / 'run')
