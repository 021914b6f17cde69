"""A run that is killed and resumed ends where an unbroken one does."""

import json
import re
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from mmengine.config import Config

from pixcon_mm.checkpoint.run_checkpoint import load_checkpoint
from tests import ROOT
from tests.commands import run
from tests.test_datasets.pictures import write_pictures
from tests.test_models import tiny

EPOCHS = 3
# Position, loss, time left, speed, rate, parts of the loss, monitors.
LINE = re.compile(
    r'epoch [1-3]/3 \[[1-6]/6\]  '
    r'loss \d+\.\d{3}  left 0:\d\d:\d\d  \S+ img/s  data \d+%  '
    r'lr \S+  grad \S+  image \d+\.\d{3}  dense \d+\.\d{3}  '
    r'.*\bfeature_std \d\.\d{3}'
)


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    """The COCO recipe with the tiny model, on 24 small images."""
    folder = tmp_path_factory.mktemp('resume')
    images = write_pictures(folder / 'images', 24, width=80, height=60)
    cfg = Config.fromfile(ROOT / 'configs/pretrain/pixcon_r50_coco.py')
    cfg.model = tiny.model_config()
    cfg.train_dataloader.update(batch_size=4, num_workers=2)
    cfg.train_dataloader.dataset.data_root = str(images)
    for step in cfg.train_dataloader.dataset.pipeline:
        if step['type'] == 'TwoViewRandomResizedCrop':
            step['scale'] = 64
    cfg.train_cfg.max_epochs = EPOCHS
    cfg.default_hooks.checkpoint.interval = 1
    cfg.default_hooks.checkpoint.max_keep_ckpts = -1
    cfg.default_hooks.logger.interval = 1
    cfg.dump(folder / 'tiny.py')
    return folder / 'tiny.py'


def train(config, work_dir, *options):
    done = run('tools/train.py', config, '--work-dir', work_dir, *options)
    assert done.returncode == 0, done.stderr
    return done.stdout


def records(work_dir):
    """Last logged record of each iteration."""
    by_step = {}
    for path in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for line in path.read_text().splitlines():
            record = json.loads(line)
            by_step[record['step']] = record
    return by_step


@pytest.mark.slow
def test_killed_and_resumed_equals_unbroken(config, tmp_path):
    whole, broken = tmp_path / 'whole', tmp_path / 'broken'
    lines = LINE.findall(train(config, whole))
    assert len(lines) == 6 * EPOCHS
    assert list(whole.glob('*/vis_data/events.out.tfevents.*'))

    words = ROOT / 'tools/train.py', config, '--work-dir', broken
    process = subprocess.Popen([sys.executable, *words])
    deadline = time.monotonic() + 240
    # Written, not just created.
    while not any(path.read_text() for path in broken.glob('last_*')):
        assert process.poll() is None, 'the run ended before it was killed'
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.wait()
    assert not (broken / f'epoch_{EPOCHS}.pth').exists()

    assert 'resumed epoch' in train(config, broken, '--resume')

    ours, theirs = records(broken), records(whole)
    assert list(ours) == list(theirs) == list(range(1, 6 * EPOCHS + 1))
    same = ('loss', 'loss_image', 'loss_dense', 'lr', 'mon_momentum')
    for step, record in theirs.items():
        # The logged loss is a running mean, which starts again.
        for name in same if step <= 6 else ('lr', 'mon_momentum'):
            assert ours[step][name] == record[name], (step, name)

    ends = [
        load_checkpoint(folder / f'epoch_{EPOCHS}.pth')
        for folder in (broken, whole)
    ]
    for name, value in ends[1]['state_dict'].items():
        assert torch.equal(ends[0]['state_dict'][name], value), name
    momenta = [end['optimizer']['state'] for end in ends]
    for index, state in momenta[1].items():
        assert torch.equal(
            momenta[0][index]['momentum_buffer'], state['momentum_buffer']
        )
    histories = [end['message_hub']['log_scalars'] for end in ends]
    for name in ('train/loss', 'train/loss_image', 'train/loss_dense'):
        old, new = (history[name].data[0] for history in histories)
        assert np.array_equal(old, new), name
