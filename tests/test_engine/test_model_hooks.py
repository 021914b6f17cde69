"""The hooks that connect PixCon to a Runner, in real runs of a Runner."""

import json
from types import SimpleNamespace

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.runner import Runner
from torch.utils.data import Dataset

from pixcon_mm.engine.hooks import KeyEncoderUpdateHook, MonitorHook
from pixcon_mm.models import PixCon
from tests.test_models import tiny


class Pairs(Dataset):
    """Random view pairs, equal at each reading of an index."""

    def __init__(self, size):
        self.batch = tiny.batch(size, pixels=64)

    def __len__(self):
        return len(self.batch['inputs'][0])

    def __getitem__(self, index):
        samples = self.batch['data_samples']
        return dict(
            inputs=[view[index] for view in self.batch['inputs']],
            data_samples={k: v[index] for k, v in samples.items()},
        )


def run(
    work_dir,
    epochs=1,
    images=12,
    accumulate=1,
    interval=1,
    runtime_info='DeferredRuntimeInfoHook',
    **monitor,
):
    """Train the tiny model; returns the runner and its logged records."""
    runner = Runner(
        model=tiny.model_config(),
        work_dir=str(work_dir),
        train_dataloader=dict(
            batch_size=2,
            dataset=Pairs(images),
            sampler=dict(type='DefaultSampler', shuffle=True),
            collate_fn=dict(type='default_collate'),
        ),
        train_cfg=dict(by_epoch=True, max_epochs=epochs),
        optim_wrapper=dict(
            optimizer=dict(type='SGD', lr=0.1, momentum=0.9),
            accumulative_counts=accumulate,
        ),
        default_hooks=dict(
            runtime_info=dict(type=runtime_info),
            logger=dict(type='LoggerHook', interval=interval),
            key_encoder=dict(type='KeyEncoderUpdateHook'),
            monitors=dict(type='MonitorHook', **monitor),
        ),
        randomness=dict(seed=0),
        experiment_name=f'{work_dir.parent.name}-{work_dir.name}',
        default_scope='mmpretrain',
    )
    runner.train()
    lines = next(work_dir.glob(f'{runner.timestamp}/vis_data/*.json'))
    records = [json.loads(line) for line in lines.read_text().splitlines()]
    return runner, records


@pytest.fixture
def written(monkeypatch):
    """Note the names of scalars as the message hub gets them."""
    written = []
    update = MessageHub.update_scalar

    def spy(hub, key, value, *args, **kwargs):
        written.append(key)
        assert key != 'train/loss' or isinstance(value, float)
        update(hub, key, value, *args, **kwargs)

    monkeypatch.setattr(MessageHub, 'update_scalar', spy)
    return written


def test_schedule_queues_and_monitors(tmp_path):
    """Features that count as collapsed are warned of once."""
    runner, records = run(tmp_path, collapse_below=99, patience=2)
    assert runner.model.image_queue.count == 12
    assert len(records) == 6
    momenta = [record['mon_momentum'] for record in records]
    assert momenta[0] == pytest.approx(0.99)
    assert momenta[3] == pytest.approx(0.995)
    assert momenta == sorted(momenta)
    for name in (
        'pos_sim',
        'pos_margin',
        'neg_logsumexp',
        'overlap',
        'weight',
        'feature_std',
    ):
        values = [record[f'mon_{name}'] for record in records]
        assert len(set(values)) > 1, name
    log = next(tmp_path.glob(f'{runner.timestamp}/*.log')).read_text()
    assert log.count('Features have collapsed') == 1


def test_accumulation_updates_once_an_optimizer_step(tmp_path, monkeypatch):
    calls = []
    update = PixCon.after_optimizer_step

    def spy(model, progress):
        calls.append((progress, len(model._pending)))
        update(model, progress)

    monkeypatch.setattr(PixCon, 'after_optimizer_step', spy)
    runner, _ = run(tmp_path, accumulate=3)
    assert calls == [(pytest.approx(2 / 6), 3), (pytest.approx(5 / 6), 3)]
    assert runner.model.image_queue.count == 12
    log = next(tmp_path.glob(f'{runner.timestamp}/*.log')).read_text()
    assert 'Features have collapsed' not in log


def test_values_are_read_only_when_a_line_is_logged(
    tmp_path, monkeypatch, written
):
    """Reading one is a host sync, so the other iterations must not."""
    step, losses_before = PixCon.train_step, []

    def counted(*args, **kwargs):
        losses_before.append(written.count('train/loss'))
        return step(*args, **kwargs)

    monkeypatch.setattr(PixCon, 'train_step', counted)
    run(tmp_path, images=18, interval=4)
    assert losses_before == [0, 0, 0, 0, 4, 4, 4, 4, 8]
    assert written.count('train/loss') == 9
    assert written.count('train/mon_overlap') == 3


def test_other_models_are_left_alone():
    runner = SimpleNamespace(model=torch.nn.Linear(1, 1), hooks=[])
    runner.train_dataloader = [0]
    KeyEncoderUpdateHook().after_train_iter(runner, 0)
    MonitorHook().after_train_iter(runner, 0)


@pytest.mark.parametrize('interval', [4, 100])
def test_losses_are_the_same_when_they_are_read_late(tmp_path, interval):
    """18 iterations in two epochs; 4 does not divide an epoch of 9."""
    kept = ('loss', 'loss_image', 'loss_dense', 'step', 'mon_feature_std')
    histories, all_records = [], []
    for hook in ('RuntimeInfoHook', 'DeferredRuntimeInfoHook'):
        torch.manual_seed(0)
        (folder := tmp_path / hook).mkdir()
        runner, records = run(
            folder, epochs=2, images=18, interval=interval, runtime_info=hook
        )
        hub = runner.message_hub
        histories.append(
            {
                name: hub.get_scalar(f'train/{name}').data[0].tolist()
                for name in ('loss', 'loss_image', 'loss_dense')
            }
        )
        all_records.append([[r[k] for k in kept] for r in records])
    assert len(histories[0]['loss']) == 18
    assert histories[0] == histories[1]
    assert all_records[0] == all_records[1]
    assert all_records[0]
