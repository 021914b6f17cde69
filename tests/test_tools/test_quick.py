"""Every recipe as a trial of a minute: trains, saves and validates."""

import copy
import logging
import re
from pathlib import Path

import pytest
from mmengine.dataset import DefaultSampler

from pixcon_mm.checkpoint.run_checkpoint import (
    load_checkpoint,
    newest_checkpoint,
)
from pixcon_mm.errors import UserError
from pixcon_mm.quick import EDGE, FirstSampler, make_quick
from pixcon_mm.tools import train
from tests import benchmarks, recipes
from tests.test_datasets.pictures import write_pictures

FAST = (
    'pretrain/pixcon_r18_demo',
    'detection/mask-rcnn_r18-fpn_demo',
    'segmentation/fcn_r18_demo',
)


def load(name):
    own = {'classes': ('a', 'b', 'c')} if '_custom' in name else None
    return recipes.load(name, own)


@pytest.mark.parametrize(
    'name',
    [
        pytest.param(name, marks=() if name in FAST else pytest.mark.slow)
        for name in recipes.list_recipes()
    ],
)
def test_a_trial_saves_and_validates(name, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    cfg, words = load(name), []
    steps = 4 * cfg.optim_wrapper.get('accumulative_counts', 1)
    if name.startswith('pretrain/'):
        write_pictures(tmp_path / 'data', 4 * steps)
    else:
        benchmarks.write_data(cfg, tmp_path / 'data')
        words = ['--pretrained', 'none']
    options = [f'data_root={tmp_path}/data/']
    if '_custom' in name:
        options.append('classes=a,b,c')
    path = Path(recipes.path_of(name))
    status, shown, errors = call(
        *(train.main, path, '--quick', *words, '--cfg-options', *options)
    )
    assert status == 0, errors
    assert shown.count('--quick: a trial, not a result: ') == 1
    folder = tmp_path / f'work_dirs/quick/{path.stem}'
    newest, _ = newest_checkpoint(folder)
    if words and 'max_epochs' in cfg.train_cfg:
        steps = benchmarks.COUNT // 2  # an epoch of this little data
    assert load_checkpoint(newest)['meta']['iter'] == steps
    if words:
        # Saved before the validation, which is of four images.
        shown = shown.partition('Saving checkpoint')[2]
        assert re.search(r'\(val\) .*\[4/4\]', shown)


class BrokenRunner:
    """A runner that runs its first hook and fails."""

    logger = logging.getLogger('broken')

    def __init__(self, cfg):
        self.work_dir, self.log_dir = cfg.work_dir, f'{cfg.work_dir}/now'

    def register_hook(self, hook, priority):
        """Keep the hook."""
        assert priority == 'HIGHEST'
        self.hook = hook

    def train(self):
        """Run the hook."""
        self.hook.before_run(self)
        raise ZeroDivisionError('by zero')


def test_a_repeated_trial_replaces_only_the_previous_one(
    monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(train, 'build_runner', BrokenRunner)
    words = [recipes.path_of('pretrain/pixcon_r18_demo'), '--quick']
    own = ['--cfg-options', f'work_dir={tmp_path}/mine']
    for folder, option, is_left in (
        ('work_dirs/quick/pixcon_r18_demo', [], False),
        ('work_dirs/mine', ['--work-dir', 'work_dirs/mine'], True),
        ('mine', own, True),
    ):
        path = tmp_path / folder / 'epoch_1.pth'
        path.parent.mkdir(parents=True)
        path.write_bytes(b'of an earlier run')
        error = UserError if is_left else ZeroDivisionError
        with pytest.raises(error, match='by zero|has checkpoints'):
            train.main([*words, *option])
        assert path.exists() == is_left
        assert not [*path.parent.glob('old-*')]


@pytest.mark.parametrize(
    ('name', 'sizes'),
    [
        ('segmentation/fcn-d6_r50-d16_90k_cityscapes', (96, (256, 128))),
        ('segmentation/fcn_r50-d8_30k_pascal-context', (118, (128, 128))),
    ],
)
def test_crops_windows_and_images_shrink_alike(name, sizes):
    cfg = load(name)
    make_quick(cfg)
    crop, scale = sizes
    assert cfg.train_dataloader.dataset.pipeline[3].crop_size == (crop,) * 2
    assert cfg.train_dataloader.dataset.pipeline[2].scale == scale
    assert cfg.val_dataloader.dataset.pipeline[1].scale == scale
    assert cfg.model.data_preprocessor.size == (crop,) * 2
    assert cfg.model.test_cfg.crop_size == (crop,) * 2
    assert max(cfg.model.test_cfg.stride) < crop
    assert cfg.train_dataloader.dataset.pipeline[2].ratio_range == (0.5, 2.0)


def test_a_part_of_the_schedule_that_would_begin_later_goes():
    cfg = load('segmentation/upernet_convnext-t_80k_ade20k')
    assert cfg.param_scheduler[1].begin == 1500
    make_quick(cfg)
    (warmup,) = cfg.param_scheduler
    assert (warmup.type, warmup.end) == ('WarmupLR', 4)


def test_sizes_of_a_detector_and_of_views():
    cfg = load('detection/mask-rcnn_r50-fpn_1x_coco')
    make_quick(cfg)
    scales = cfg.train_dataloader.dataset.pipeline[2].scales
    assert max(scales) == (213, EDGE)
    cfg = load('pretrain/densecl_r50_coco')
    make_quick(cfg)
    views = cfg.train_dataloader.dataset.pipeline[1].transforms
    assert [view[0].scale for view in views] == [EDGE]
    demo, before = load('segmentation/fcn_r18_demo'), {}
    for step in demo.val_dataloader.dataset.pipeline[:2]:
        before[step.type] = dict(step)
    make_quick(demo)
    assert before['Resize']['scale'] == (240, 180)
    assert demo.val_dataloader.dataset.pipeline[1].scale == (171, EDGE)


def test_the_users_settings_that_it_replaces_are_named():
    cfg = load('segmentation/fcn_r18_demo')
    assert 'replaces' not in make_quick(copy.deepcopy(cfg))
    cfg.train_dataloader.update(batch_size=8, num_workers=0)
    cfg.train_dataloader.dataset.pipeline[2].scale = (640, 480)
    given = dict.fromkeys(
        [
            'train_dataloader.batch_size',
            'train_dataloader.num_workers',
            'train_dataloader.dataset.pipeline.2.scale',
            'custom_hooks.99.priority',
        ]
    )
    note = make_quick(cfg, given)
    assert note.endswith(
        ' It replaces train_dataloader.batch_size=8 by 2, '
        'train_dataloader.dataset.pipeline.2.scale=(640, 480) by (171, 128).'
    )
    cfg.train_dataloader.batch_size = 1  # smaller than that of a trial
    assert 'batch_size' not in make_quick(cfg, given)
    assert cfg.train_dataloader.batch_size == 1


def test_first_images():
    data = list(range(10))
    whole = list(DefaultSampler(data, shuffle=True, seed=1))
    few = FirstSampler(num=4, dataset=data, shuffle=True, seed=1)
    assert (list(few), len(few)) == (whole[:4], 4)
    assert len(FirstSampler(num=40, dataset=data)) == 10
