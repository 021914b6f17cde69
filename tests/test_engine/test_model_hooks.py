"""The hooks that connect PixCon to a Runner, in real runs of a Runner."""

import json
import logging

import pytest
import torch
from mmengine.runner import Runner
from torch.utils.data import Dataset

import pixcon_mm.engine  # noqa: F401
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
    **kwargs,
):
    """Train the tiny model; returns the runner and its logged records."""
    name = f'{work_dir.name}-{len(list(work_dir.iterdir()))}'
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
            monitors=dict(type='MonitorHook', **kwargs),
        ),
        randomness=dict(seed=0),
        experiment_name=name,
        default_scope='mmpretrain',
    )
    runner.train()
    lines = next(work_dir.glob(f'{runner.timestamp}/vis_data/*.json'))
    records = [json.loads(line) for line in lines.read_text().splitlines()]
    return runner, records


def test_schedule_and_queues_step_with_the_optimizer(tmp_path):
    runner, records = run(tmp_path)
    assert runner.model.image_queue.count == 12
    assert len(records) == 6
    momenta = [record['mon_momentum'] for record in records]
    assert momenta[0] == pytest.approx(0.99)
    assert momenta[3] == pytest.approx(0.995)
    assert momenta == sorted(momenta)


def test_accumulation_updates_once_an_optimizer_step(tmp_path, monkeypatch):
    from pixcon_mm.models import PixCon

    calls = []
    update = PixCon.after_optimizer_step

    def spy(model, progress):
        calls.append((progress, len(model._pending)))
        update(model, progress)

    monkeypatch.setattr(PixCon, 'after_optimizer_step', spy)
    runner, _ = run(tmp_path, accumulate=3)
    assert [pending for _, pending in calls] == [3, 3]
    assert [p for p, _ in calls] == [
        pytest.approx(2 / 6),
        pytest.approx(5 / 6),
    ]
    assert runner.model.image_queue.count == 12


def test_monitors_are_logged(tmp_path):
    _, records = run(tmp_path)
    names = ('pos_sim', 'neg_logsumexp', 'overlap', 'weight', 'feature_std')
    for name in names:
        values = [record[f'mon_{name}'] for record in records]
        assert len(set(values)) > 1, name


def test_monitors_are_read_only_when_logged(tmp_path, monkeypatch):
    """Reading one is a host sync, so the other iterations must not."""
    from mmengine.logging import MessageHub

    written = []
    update = MessageHub.update_scalar

    def spy(hub, key, *args, **kwargs):
        written.append(key)
        update(hub, key, *args, **kwargs)

    monkeypatch.setattr(MessageHub, 'update_scalar', spy)
    run(tmp_path, images=24, interval=4)
    assert written.count('train/loss') == 12
    assert written.count('train/mon_overlap') == 3


def test_collapse_is_warned_of_once(tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        runner, _ = run(tmp_path, collapse_below=99, patience=2)
    log = next(tmp_path.glob(f'{runner.timestamp}/*.log')).read_text()
    assert log.count('Features have collapsed') == 1


def test_healthy_features_are_not_warned_of(tmp_path):
    runner, _ = run(tmp_path, patience=1)
    log = next(tmp_path.glob(f'{runner.timestamp}/*.log')).read_text()
    assert 'Features have collapsed' not in log


def test_other_models_are_left_alone(tmp_path):
    from types import SimpleNamespace

    from pixcon_mm.engine import KeyEncoderUpdateHook, MonitorHook

    runner = SimpleNamespace(model=torch.nn.Linear(1, 1), hooks=[])
    runner.train_dataloader = [0]
    KeyEncoderUpdateHook().after_train_iter(runner, 0)
    hook = MonitorHook()
    hook.before_train(runner)
    hook.after_train_iter(runner, 0)


@pytest.mark.parametrize('interval', [1, 4, 100])
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


def test_losses_are_read_only_when_a_line_is_logged(tmp_path, monkeypatch):
    from mmengine.logging import MessageHub

    received = []
    update = MessageHub.update_scalar

    def spy(self, key, value, *args, **kwargs):
        if key == 'train/loss':
            received[-1] += 1
            assert isinstance(value, float)
        update(self, key, value, *args, **kwargs)

    monkeypatch.setattr(MessageHub, 'update_scalar', spy)
    step = tiny.MODELS.get('mmpretrain.PixCon').train_step

    def counted(*args, **kwargs):
        received.append(0)
        return step(*args, **kwargs)

    monkeypatch.setattr('pixcon_mm.models.PixCon.train_step', counted)
    run(tmp_path, images=18, interval=4)
    assert received == [0, 0, 0, 4, 0, 0, 0, 4, 1]
