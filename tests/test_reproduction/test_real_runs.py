"""A plan with the real tools, from nothing to the table."""

import csv
import os
import signal
import subprocess
import sys

import pytest
import yaml

from tests import ROOT
from tests.commands import wait_until
from tests.test_reproduction.conftest import FINETUNED, PRETRAINED, plan_dict
from tests.test_reproduction.test_frozen import knn


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """Make a few scenes, as the demo has them."""
    folder = tmp_path_factory.mktemp('scenes')
    tool = [sys.executable, ROOT / 'tools/make_demo_data.py', '--out', folder]
    subprocess.run([*tool, '--train', '16', '--val', '3'], check=True)
    return folder


def write_plan(folder, data):
    """Write a plan of a pre-training and a fine-tuning of 8 steps each.

    The frozen features are evaluated, too.
    """
    plan = plan_dict(folder, seeds=[0], pretrain_seeds=[0])
    scenes = dict(root=str(data), files={'train2017/*.jpg': 16})
    plan['data'] = dict(toy=scenes)
    plan['pretrain_sets']['toy']['options'] = {'data_root': '{toy}/train2017/'}
    plan['methods']['sr']['options'] = {
        'model.queue_len': 32,
        'auto_scale_lr.base_batch_size': 4,
        'train_dataloader.dataset.pipeline.1.scale': 64,
        'train_cfg.max_epochs': 2,
        'default_hooks.checkpoint.interval': 1,
        'default_hooks.logger.interval': 1,
    }
    plan['benchmarks']['seg']['options'] = {
        'data_root': '{toy}/',
        'crop_size': [64, 64],
        'auto_scale_lr.base_batch_size': 2,
        'train_cfg.max_iters': 8,
        'default_hooks.checkpoint.interval': 2,
        'default_hooks.logger.interval': 1,
    }
    plan['benchmarks']['frozen'] = knn(
        protocols=['knn', 'correspondence'],
        size=[96, 128],
        crop_size=64,
        memory=50,
        workers=0,
    )
    table = plan['tables']['main']
    table['rows'][0]['methods'] = ['sr']
    table['benchmarks'] = ['seg', 'frozen']
    path = folder / 'plan.yaml'
    path.write_text(yaml.safe_dump(plan))
    return path


def command(path):
    return [sys.executable, ROOT / 'tools/reproduce.py', 'run', path]


@pytest.mark.slow
def test_killed_twice_the_table_is_the_same(tmp_path, data):
    numbers = []
    for name, kills in (
        ('whole', []),
        ('broken', [(PRETRAINED, 'epoch_1.pth'), (FINETUNED, 'iter_2.pth')]),
    ):
        folder = tmp_path / name
        folder.mkdir()
        path = write_plan(folder, data)
        for run, checkpoint in kills:
            process = subprocess.Popen(command(path), start_new_session=True)
            file = folder / 'runs' / run / checkpoint

            def is_over(file=file, process=process):
                return file.exists() or process.poll() is not None

            wait_until(is_over, 240)
            assert process.poll() is None, 'it ended before it was killed'
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            assert not (file.parent / 'metrics.json').exists()
        subprocess.run(command(path), check=True)
        lines = (folder / 'runs/table.csv').open()
        numbers.append([*csv.DictReader(lines)])
        for run, _ in kills:
            log = (folder / 'runs' / run / 'log.txt').read_text()
            assert 'resumed' in log
    assert len(numbers[0]) == 3
    assert all(0 <= float(row['mean']) <= 100 for row in numbers[0])
    row = numbers[0][0]
    assert float(row['mean']) > 0
    assert float(row['pretrain_device_hours']) > 0
    assert float(row['images_per_second']) > 0
    assert len(row['checkpoint_sha256']) == 64
    output = subprocess.run(
        command(path), check=True, capture_output=True, text=True
    ).stdout
    assert '4 runs: 4 complete' in output
    assert 'tools/train.py' not in output  # nothing was run again
    same = ('mean', 'std', 'n', 'values', 'epochs', 'options')
    whole, broken = (
        [{key: row[key] for key in same} for row in rows] for rows in numbers
    )
    assert whole == broken
