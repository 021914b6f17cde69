"""Checkpoints come back as they were, and the newest whole one is found."""

import os
import time
from collections import OrderedDict

import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.logging import HistoryBuffer

from pixcon_mm.checkpoint.run_checkpoint import (
    load_checkpoint,
    newest_checkpoint,
    read_progress,
    write_checkpoint,
)
from pixcon_mm.errors import UserError
from tests.toy import Code


def content(epoch=1, iteration=4, length=4, **parts):
    scale = dict(epoch_length=length)
    meta = dict(epoch=epoch, iter=iteration, scale=scale)
    parts = dict(meta=meta, state_dict=OrderedDict(a=torch.ones(64))) | parts
    hub = dict(log_scalars={}, runtime_info={}, resumed_keys={})
    return dict(optimizer={}, message_hub=hub) | parts


def write(folder, name, *args, **parts):
    path = folder / f'{name}.pth'
    write_checkpoint(content(*args, **parts), path)
    return path


def test_what_a_run_keeps_comes_back(tmp_path):
    history = HistoryBuffer(max_length=5)
    for value in (4, 2.5, 1.25):
        history.update(value, 2)
    weights = OrderedDict(a=torch.randn(3), b=torch.tensor(7))
    weights._metadata = OrderedDict({'': dict(version=2)})
    hub = dict(
        log_scalars={'train/loss': history},
        runtime_info=dict(
            best=np.float64(0.25),
            step=np.int64(3),
            is_best=np.bool_(True),
            array=np.arange(3),
            palette=[(1, 2), (3, 4)],
            cfg=ConfigDict(type='SGD', betas=(0.9, 0.99)),
            classes={'b'},
        ),
        resumed_keys=OrderedDict({'train/loss': True, 'best': True}),
    )
    optimizer = dict(
        state={0: dict(momentum_buffer=torch.randn(3), step=None)},
        param_groups=[dict(lr=np.float64(0.1), betas=(0.9, 0.99), params=[0])],
        base_param_settings=dict(params=torch.zeros(1), lr=0.1),
    )
    path = tmp_path / 'iter_4.pth'
    written = content(message_hub=hub, optimizer=optimizer, state_dict=weights)
    write_checkpoint(written, path)
    torch.load(path, weights_only=True)
    found = load_checkpoint(path)

    assert found['state_dict']._metadata == weights._metadata
    for name, tensor in weights.items():
        assert torch.equal(found['state_dict'][name], tensor)
    again = found['message_hub']['log_scalars']['train/loss']
    assert [a.tolist() for a in again.data] == [[4, 2.5, 1.25], [2, 2, 2]]
    again.update(9, 2)
    assert again.mean(2) == pytest.approx((1.25 + 9) / 4)
    assert again.max_length == 5
    info = found['message_hub']['runtime_info']
    array = info.pop('array')
    assert array.tolist() == [0, 1, 2]
    assert info == dict(
        best=0.25,
        step=3,
        is_best=True,
        palette=[(1, 2), (3, 4)],
        cfg=dict(type='SGD', betas=(0.9, 0.99)),
        classes=['b'],
    )
    (group,) = found['optimizer']['param_groups']
    assert group == dict(lr=0.1, betas=(0.9, 0.99), params=[0])
    state = found['optimizer']['state'][0]
    buffer = optimizer['state'][0]['momentum_buffer']
    assert torch.equal(state['momentum_buffer'], buffer)
    # The run keeps its own.
    assert hub['log_scalars']['train/loss'] is history


@pytest.mark.parametrize(
    'places',
    [
        # Not by name: 9 comes before 10, iterations are between epochs.
        dict(
            iter_41=(10, 41),
            epoch_10=(10, 40),
            iter_39=(9, 39),
            epoch_9=(9, 36),
        ),
        # Epochs of 8 iterations, after the third of 4.
        dict(iter_13=(3, 13), epoch_3=(3, 24, 8), iter_20=(2, 20, 8)),
        # A run that does not count epochs.
        {f'iter_{n}': (0, n, None) for n in (100, 10, 9)},
    ],
)
@pytest.mark.parametrize('order', [list, reversed])
def test_the_newest_is_furthest_in_the_run(tmp_path, places, order):
    for name in order([*places]):
        write(tmp_path, name, *places[name])
    for name in places:
        newest, unfit = newest_checkpoint(tmp_path)
        assert (newest.stem, unfit) == (name, {})
        newest.unlink()
    assert newest_checkpoint(tmp_path) == (None, {})


def test_times_and_last_checkpoint_are_ignored(tmp_path):
    newest = write(tmp_path, 'epoch_2', 2, 8)
    old = write(tmp_path, 'epoch_1', 1, 4)
    later = time.time() + 1000
    os.utime(old, (later, later))
    (tmp_path / 'last_checkpoint').write_text(str(old))
    assert newest_checkpoint(tmp_path)[0] == newest


@pytest.mark.parametrize('name', ['best_score_epoch_9', 'final', 'epoch_x'])
def test_other_names_are_not_taken(tmp_path, name):
    write(tmp_path, name, 9, 36)
    assert newest_checkpoint(tmp_path) == (None, {})


@pytest.mark.parametrize(
    ('part', 'problem'),
    [
        ('optimizer', "it has no 'optimizer'"),
        ('meta', "it has no 'meta'"),
        ('message_hub', "it has no 'message_hub'"),
        ({}, 'does not say how many'),
        (dict(epoch=1), 'does not say how many'),
        (dict(epoch=1, iter='4'), 'does not say how many'),
        (dict(epoch=1, iter=4), 'how many iterations an epoch has'),
    ],
)
def test_files_that_no_run_can_resume_from(tmp_path, part, problem):
    good, bad = write(tmp_path, 'epoch_1', 1, 4), tmp_path / 'epoch_9.pth'
    lacking = content(9, 36)
    if isinstance(part, dict):
        lacking['meta'] = part
    else:
        del lacking[part]
    torch.save(lacking, bad)
    newest, unfit = newest_checkpoint(tmp_path)
    assert newest == good
    assert problem in unfit[bad]


def test_progress_is_read_without_the_tensors(tmp_path):
    path = write(tmp_path, 'epoch_1', 1, 4)
    data = bytearray(path.read_bytes())
    data[data.index(torch.ones(64).numpy().tobytes())] ^= 1
    path.write_bytes(data)
    assert read_progress(path) == (1, 0)
    with pytest.raises(UserError, match='is damaged'):
        load_checkpoint(path)


def test_code_is_not_run(tmp_path):
    good, bad = write(tmp_path, 'epoch_1', 1, 4), tmp_path / 'epoch_9.pth'
    torch.save(content(9, 36, extra=Code(tmp_path)), bad)
    newest, unfit = newest_checkpoint(tmp_path)
    assert newest == good
    assert 'could run code' in unfit[bad]
    with pytest.raises(UserError, match='could run code'):
        load_checkpoint(bad)
    assert not (tmp_path / 'code was run').exists()
