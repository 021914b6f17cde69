"""A plan with the real tools, from nothing to the table."""

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PRETRAINED, FINETUNED = 'pretrain/sr-toy-seed0', 'finetune/seg/sr-toy-seed0'


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    """A few scenes, as the demo's."""
    folder = tmp_path_factory.mktemp('scenes')
    tool = [sys.executable, ROOT / 'tools/make_demo_data.py', '--out', folder]
    subprocess.run([*tool, '--train', '16', '--val', '3'], check=True)
    return folder


def write_plan(folder, data):
    """A pre-training of 8 steps, a fine-tuning of 8 steps, a test."""
    plan = dict(
        title='Toy',
        work_dir=str(folder / 'runs'),
        seeds=[0],
        pretrain_seeds=[0],
        data=dict(scenes=dict(root=str(data), files={'train2017/*.jpg': 16})),
        pretrain_sets=dict(
            toy=dict(
                title='toys',
                data=['scenes'],
                options={'data_root': '{scenes}/train2017/'},
            )
        ),
        methods=dict(
            sr=dict(
                title='PixCon-SR',
                config='configs/pretrain/pixcon_r18_demo.py',
                options={
                    'model.queue_len': 32,
                    'train_dataloader.batch_size': 4,
                    'train_dataloader.dataset.pipeline.1.scale': 64,
                    'train_cfg.max_epochs': 2,
                    'default_hooks.checkpoint.interval': 1,
                    'default_hooks.logger.interval': 1,
                },
            )
        ),
        benchmarks=dict(
            seg=dict(
                title='Segmentation',
                protocol='a few steps',
                config='configs/segmentation/fcn_r18_demo.py',
                data=['scenes'],
                metrics=dict(mIoU=dict(title='mIoU')),
                options={
                    'data_root': '{scenes}/',
                    'crop_size': [64, 64],
                    'train_dataloader.batch_size': 2,
                    'train_cfg.max_iters': 8,
                    'default_hooks.checkpoint.interval': 2,
                    'default_hooks.logger.interval': 1,
                },
            )
        ),
        tables=dict(
            main=dict(
                title='Main',
                rows=[dict(methods=['sr'], sets=['toy'])],
                benchmarks=['seg'],
            )
        ),
    )
    path = folder / 'plan.yaml'
    path.write_text(yaml.safe_dump(plan))
    return path


def command(path):
    tool = ROOT / 'tools/reproduce.py'
    return [sys.executable, str(tool), 'run', str(path)]


def table(folder):
    (row,) = csv.DictReader((folder / 'runs/table.csv').open())
    return row


@pytest.mark.slow
def test_from_nothing_to_the_table(tmp_path, data):
    path = write_plan(tmp_path, data)
    subprocess.run(command(path), check=True, cwd=tmp_path)
    row = table(tmp_path)
    assert 0 < float(row['mean']) < 100
    assert (row['n'], row['wanted'], row['pretrainings']) == ('1', '1', '1')
    assert float(row['pretrain_device_hours']) > 0
    assert float(row['images_per_second']) > 0
    assert len(row['checkpoint_sha256']) == 64
    for name in ('table.html', 'table.md'):
        assert (
            f'{float(row["mean"]):.1f}'
            in (tmp_path / 'runs' / name).read_text()
        )
    said = subprocess.run(
        command(path), check=True, capture_output=True, text=True
    ).stdout
    assert '3 runs: 3 complete' in said
    assert 'tools/train.py' not in said  # nothing was run again


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
            at = folder / 'runs' / run
            deadline = time.monotonic() + 240
            while not (at / checkpoint).exists():
                assert process.poll() is None, 'it ended before it was killed'
                assert time.monotonic() < deadline
                time.sleep(0.005)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            assert not (at / 'metrics.json').exists()
        subprocess.run(command(path), check=True)
        numbers.append(table(folder))
        for run, _ in kills:
            log = (folder / 'runs' / run / 'log.txt').read_text()
            assert 'resumed' in log
    same = ('mean', 'std', 'n', 'values', 'epochs', 'options')
    whole, broken = ({key: row[key] for key in same} for row in numbers)
    assert whole == broken
