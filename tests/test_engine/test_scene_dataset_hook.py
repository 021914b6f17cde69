"""Images that cannot be read are reported to the user."""

import copy
import logging
import os
import re
from types import SimpleNamespace

import pytest
import torch
from mmengine.dataset import ConcatDataset, RepeatDataset
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.runner.runner import _SlicedDataset
from torch import nn

from pixcon_mm.engine.hooks import scene_dataset_hook
from pixcon_mm.engine.hooks.scene_dataset_hook import (
    SceneDatasetHook,
    scene_datasets,
)
from pixcon_mm.files import from_line
from tests.test_datasets.pictures import encode, picture, write_pictures
from tests.test_datasets.test_scene_images import PIPELINE, build
from tests.test_engine.runs import config, log_of, train


@MODELS.register_module()
class AnyInputs(BaseModel):
    """One weight, whatever the batch is."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, inputs, data_samples=None, mode='loss'):
        return dict(loss=self.weight.sum())


def scenes(root, workers):
    """Train on the images of a folder, for two epochs."""
    dataset = dict(type='mmpretrain.SceneImageDataset', data_root=root)
    return dict(
        default_scope='mmpretrain',
        model=dict(type='AnyInputs'),
        train_dataloader=dict(
            batch_size=4,
            num_workers=workers,
            collate_fn=dict(type='default_collate'),
            dataset=dict(dataset, pipeline=PIPELINE, _delete_=True),
        ),
        default_hooks=dict(
            checkpoint=dict(interval=99),
            scene_dataset=dict(type='SceneDatasetHook'),
        ),
    )


@pytest.fixture(autouse=True)
def _all_names(monkeypatch):
    """Let the warning show all names."""
    monkeypatch.setattr(scene_dataset_hook, 'MAX_NAMES', 99)


@pytest.fixture
def dataset(tmp_path):
    """Write four whole images."""
    return build(str(write_pictures(tmp_path / 'images', 4)))


ODD_NAMES = (
    *(b'caf\xe9.png', b'two\nlines.png', b'\x1b[31mred.png'),
    *(b'"quoted".png', 'Füße 像.png'.encode(), b'\\n.png', b' a.png '),
    'next\u2028line.png'.encode(),
)


@pytest.mark.parametrize('workers', [0, 2])
def test_any_name_is_read_reported_and_found_again(tmp_path, capfd, workers):
    folder = os.fsencode(tmp_path / 'images')
    os.mkdir(folder)
    for i, name in enumerate(ODD_NAMES):
        for start, content in ((b'whole', encode(picture(i))), (b'bad', b'')):
            with open(folder + b'/' + start + name + b'.png', 'wb') as file:
                file.write(content)
    cfg = config(tmp_path, 'run', scenes(os.fsdecode(folder), workers))
    runner, _ = train(cfg, recorded=False)
    shown = ''.join(capfd.readouterr())
    work_dir, count = tmp_path / 'run', len(ODD_NAMES)
    lines = (work_dir / 'broken_images.txt').read_bytes().split(b'\n')
    assert lines.pop() == b''
    paths = [from_line(line.decode()) for line in lines]
    assert {os.fsencode(path) for path in paths} == {
        folder + b'/bad' + name + b'.png' for name in ODD_NAMES
    }
    # Once, though there are two epochs.
    (warning,) = re.findall('.*cannot be read.*', log_of(runner))
    assert f'{count} of {2 * count} images cannot be read' in warning
    assert warning.isprintable()
    assert all(line.decode() in warning for line in lines)
    for text in (shown, log_of(runner)):
        assert 'Logging error' not in text
        assert '[31mred' in text
        assert '\x1b[31mred' not in text


def fake_runner(dataset, work_dir):
    return SimpleNamespace(
        train_dataloader=SimpleNamespace(dataset=dataset),
        work_dir=str(work_dir),
        logger=logging.getLogger('fake'),
    )


def test_a_full_disk_is_not_the_end(dataset, tmp_path, caplog):
    dataset.broken[1] = 1
    (tmp_path / 'broken_images.txt').mkdir()
    SceneDatasetHook().after_train_epoch(fake_runner(dataset, tmp_path))
    (record,) = caplog.records
    assert 'No list of them was written (' in record.getMessage()


def test_only_new_broken_images_are_named(dataset, tmp_path, caplog):
    hook = SceneDatasetHook()
    for index in (0, None, 2):
        if index is not None:
            dataset.broken[index] = 1
        hook.after_train_epoch(fake_runner(dataset, tmp_path))
    first, second = (record.getMessage() for record in caplog.records)
    assert first.startswith('1 of 4 images')
    assert '000.png (1)' in first
    assert second.startswith('2 of 4 images')
    assert '002.png (1)' in second
    assert '000.png' not in second
    listing = (tmp_path / 'broken_images.txt').read_text().split()
    found = [os.path.basename(path) for path in listing]
    assert found == ['000.png', '002.png']


def test_broken_images_of_other_ranks_are_taken_over(
    dataset, tmp_path, monkeypatch, caplog
):
    other = torch.tensor([0, 0, 1, 1], dtype=torch.uint8)

    def all_reduce(flags, op):
        assert op == 'max'
        torch.maximum(flags, other, out=flags)

    name = f'{SceneDatasetHook.__module__}.all_reduce'
    monkeypatch.setattr(name, all_reduce)
    dataset.broken[0] = 1
    SceneDatasetHook().after_train_epoch(fake_runner(dataset, tmp_path))
    assert dataset.broken.tolist() == [1, 0, 1, 1]
    assert dataset.broken.is_shared()
    assert caplog.records[0].getMessage().startswith('3 of 4 images')


def test_datasets_are_found_inside_wrappers(dataset, tmp_path):
    other = build(str(write_pictures(tmp_path / 'other', 3)))
    nested = RepeatDataset(dataset, times=2)
    nested.dataset = ConcatDataset([dataset, other])
    assert list(scene_datasets(nested)) == [dataset, other]
    subset = torch.utils.data.Subset(dataset, [0])
    assert list(scene_datasets(subset)) == [dataset]
    # Of num_batch_per_epoch; it passes on attributes that it lacks.
    sliced = _SlicedDataset(dataset, 4)
    assert list(scene_datasets(sliced)) == [dataset]
    assert list(scene_datasets([1, 2, 3])) == []
    # A copy, as the runner makes one, shares nothing with workers yet.
    nested = copy.deepcopy(nested)
    found = list(scene_datasets(nested))
    assert not any(dataset.broken.is_shared() for dataset in found)
    SceneDatasetHook().before_train(fake_runner(nested, tmp_path))
    assert all(dataset.broken.is_shared() for dataset in found)
