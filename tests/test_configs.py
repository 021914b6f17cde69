"""Every recipe loads, builds, and uses all that it defines."""

import ast
import inspect
import re
from pathlib import Path

import pytest
import torch
from mmengine.runner import Runner
from mmpretrain.registry import TRANSFORMS

from pixcon_mm.config import EXTRA_KEYS, load_config
from pixcon_mm.engine import PixConRunner
from tests import benchmarks, toy
from tests.test_datasets.pictures import write_pictures

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / 'configs').rglob('*.py'))
PRETRAIN = sorted((ROOT / 'configs/pretrain').glob('*.py'))
FINETUNE = sorted(
    path
    for task in ('detection', 'segmentation')
    for path in (ROOT / f'configs/{task}').glob('*.py')
)
READ_BY_RUNNER = {
    *inspect.signature(Runner).parameters,
    *EXTRA_KEYS,
    *('_base_', 'custom_imports'),
}


@pytest.fixture(autouse=True)
def _framework_state():
    with toy.framework_state():
        yield


def stem(path):
    return path.stem


def bases(path):
    """The files that a config builds on, all levels."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Assign) and (
            getattr(node.targets[0], 'id', '') == '_base_'
        ):
            value = ast.literal_eval(node.value)
            for name in [value] if isinstance(value, str) else value:
                base = (path.parent / name).resolve()
                yield base
                yield from bases(base)


def defined(path):
    return {
        target.id
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def used(path):
    """Names read in the file, and what it takes from its bases."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = {
        node.id
        for node in nodes
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    }
    from_base = {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute)
        and getattr(node.value, 'id', '') == '_base_'
    }
    return names, from_base


@pytest.mark.parametrize('path', FILES, ids=stem)
def test_every_variable_is_used(path):
    names = used(path)[0] | READ_BY_RUNNER
    for child in FILES:
        if path in bases(child):
            names |= used(child)[1]
    assert defined(path) <= names


@pytest.mark.parametrize('path', PRETRAIN + FINETUNE, ids=stem)
def test_header_states_the_recipe(path):
    header = re.match(r'(?:#.*\n){4,}', path.read_text())
    assert header, 'a recipe begins with a comment of four lines'
    words = ' '.join(header[0].replace('#', ' ').split())
    assert 'Source: ' in words
    assert re.search(r'not measured|been measured|Expected: ', words)
    batch = re.search(
        r'\d+ (?:GPUs?|process) x (\d+)(?: x (\d+) batches a step)? = (\d+)',
        words,
    )
    processes = int(re.search(r'(\d+) (?:GPU|process)', batch[0])[1])
    cfg = load_config(str(path))
    steps = cfg.optim_wrapper.get('accumulative_counts', 1)
    assert int(batch[1]) == cfg.train_dataloader.batch_size
    assert int(batch[2] or 1) == steps
    assert int(batch[3]) == processes * int(batch[1]) * steps
    assert int(batch[3]) == cfg.auto_scale_lr.base_batch_size


@pytest.mark.parametrize(
    'path',
    [path for path in PRETRAIN if {*bases(path)} & {*PRETRAIN}],
    ids=stem,
)
def test_variants_are_short(path):
    lines = [line.strip() for line in path.read_text().splitlines()]
    code = [line for line in lines if line and not line.startswith('#')]
    assert len(code) < 60


@pytest.mark.parametrize('path', PRETRAIN, ids=stem)
def test_builds_and_feeds_the_model(path, tmp_path):
    images = write_pictures(tmp_path / 'images', 2)
    options = {
        'data_root': str(images),
        'work_dir': str(tmp_path / 'work'),
        'experiment_name': path.stem,
        'train_dataloader.batch_size': 2,
        'train_dataloader.num_workers': 0,
        'train_dataloader.persistent_workers': False,
        'train_dataloader.pin_memory': False,
        'auto_scale_lr.base_batch_size': 2,
    }
    cfg = load_config(str(path), options)
    if 'queue_len' in cfg.model:
        # Its content is not looked at here.
        cfg.model.queue_len = 8
    runner = PixConRunner.from_cfg(cfg)
    # As Runner.train() does before its first step.
    loop = runner.build_train_loop(runner._train_loop)
    runner._train_loop = loop
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    schedulers = runner.build_param_scheduler(runner.param_schedulers)
    assert len(schedulers) == len(cfg.param_scheduler)
    assert type(runner.visualizer).__name__ == cfg.visualizer.type
    assert type(runner.log_processor).__name__ == cfg.log_processor.type
    names = {type(hook).__name__ for hook in runner.hooks}
    assert names > {hook.type for hook in cfg.default_hooks.values()}
    # One group: nothing that is trained escapes weight decay.
    (group,) = runner.optim_wrapper.param_groups
    trained = [p for p in runner.model.parameters() if p.requires_grad]
    assert len(group['params']) >= len(trained)
    assert group['weight_decay'] == 1e-4

    batch = runner.model.data_preprocessor(next(iter(loop.dataloader)), True)
    size = 96 if 'demo' in path.stem else 224
    assert len(batch['inputs']) == 2
    for view in batch['inputs']:
        assert view.shape == (2, 3, size, size)
        assert view.is_floating_point()
    assert not batch['inputs'][0].equal(batch['inputs'][1])


@pytest.mark.parametrize('path', FINETUNE, ids=stem)
def test_finetuning_builds_and_feeds_the_model(path, tmp_path):
    options = {
        'data_root': f'{tmp_path}/data/',
        'work_dir': f'{tmp_path}/work',
        'experiment_name': path.stem,
        'train_dataloader.batch_size': 2,
        'default_hooks.pretrained.source': 'none',
    }
    for loader in ('train_dataloader', 'val_dataloader'):
        options[f'{loader}.num_workers'] = 0
        options[f'{loader}.persistent_workers'] = False
    before = load_config(str(path))
    cfg = load_config(str(path), options)
    # The new folder reached every place.
    assert before.data_root not in str(cfg._cfg_dict)
    benchmarks.write_data(cfg, f'{tmp_path}/data')
    runner = PixConRunner.from_cfg(cfg)
    train = runner._train_loop = runner.build_train_loop(runner._train_loop)
    runner._val_loop = runner.build_val_loop(runner._val_loop)
    assert runner.test_loop.evaluator.metrics
    assert (train.max_iters, train.val_interval) == (
        cfg.train_cfg.max_iters,
        cfg.train_cfg.val_interval,
    )
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    trained = {
        id(parameter)
        for group in runner.optim_wrapper.param_groups
        for parameter in group['params']
    }
    for name, parameter in runner.model.named_parameters():
        assert parameter.requires_grad, name
        assert id(parameter) in trained, name
    schedulers = runner.build_param_scheduler(runner.param_schedulers)
    assert len(schedulers) == len(cfg.param_scheduler)
    names = {type(hook).__name__ for hook in runner.hooks}
    hooks = [*cfg.default_hooks.values(), *cfg.get('custom_hooks', [])]
    assert names >= {hook.type for hook in hooks}

    batch = next(iter(train.dataloader))
    assert len(batch['inputs']) == len(batch['data_samples']) == 2
    assert batch['inputs'][0].dtype == torch.uint8
    fed = runner.model.data_preprocessor(batch, True)
    size = cfg.get('crop_size')
    if size:
        assert fed['inputs'].shape == (2, 3, *size)
        assert fed['data_samples'][0].gt_sem_seg.shape == tuple(size)
    else:
        short = min(fed['data_samples'][0].img_shape)
        step = cfg.train_dataloader.dataset
        step = step.get('datasets', [step])[0].pipeline[2]
        sides = (benchmarks.WIDTH, benchmarks.HEIGHT)
        factors = [min(w / sides[0], h / sides[1]) for w, h in step.scales]
        assert short in {int(sides[1] * f + 0.5) for f in factors}
        assert len(fed['data_samples'][0].gt_instances) == 2
    assert fed['inputs'].is_floating_point()
    # One image is tested at a time, at one size.
    (image,) = next(iter(runner.val_loop.dataloader))['inputs']
    assert image.dtype == torch.uint8


def load(name):
    return load_config(str(ROOT / f'configs/pretrain/{name}.py'))


def test_numbers_of_the_main_recipe():
    """Reference file, sections 1.1, 2.1 and 3.1."""
    cfg = load('pixcon_r50_coco')
    loader = cfg.train_dataloader
    assert loader.batch_size * 8 == cfg.auto_scale_lr.base_batch_size == 512
    assert not cfg.auto_scale_lr.enable
    assert 'accumulative_counts' not in cfg.optim_wrapper
    assert loader.drop_last is True
    assert (loader.num_workers, loader.persistent_workers) == (8, True)
    assert loader.sampler == dict(type='DefaultSampler', shuffle=True)
    # The release: 50; a job with a time limit would not get on.
    assert cfg.default_hooks.checkpoint.interval == 10
    assert cfg.default_hooks.logger.interval == 50
    assert cfg.env_cfg.cudnn_benchmark is True
    assert cfg.env_cfg.mp_cfg == dict(
        mp_start_method='fork', opencv_num_threads=0
    )
    assert cfg.randomness.seed == 0
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    assert cfg.optim_wrapper.dtype == 'float16'
    assert cfg.optim_wrapper.loss_scale == 'dynamic'
    assert 'clip_grad' not in cfg.optim_wrapper

    assert cfg.model.backbone.depth == 50
    assert cfg.model.neck.hid_channels == cfg.model.head.hid_channels == 2048
    assert cfg.model.neck.out_channels == cfg.model.head.channels == 128
    for part in (cfg.model.backbone, cfg.model.neck, cfg.model.head):
        assert part.norm_cfg.type == 'SyncBN'
    assert cfg.model.head.matching == 'similarity'
    preprocessor = cfg.model.data_preprocessor
    assert preprocessor.bgr_to_rgb is True
    for ours, theirs in (
        (preprocessor.mean, (0.485, 0.456, 0.406)),
        (preprocessor.std, (0.229, 0.224, 0.225)),
    ):
        assert [x / 255 for x in ours] == pytest.approx(theirs, abs=1e-9)
    assert cfg.model.queue_len == 65536
    assert (cfg.model.base_momentum, cfg.model.end_momentum) == (0.01, 0.0)
    assert cfg.model.loss_lambda == 0.5
    assert cfg.model.head.loss.temperature == 0.2
    assert cfg.model.head.reweight == dict(power=2, use_mask=True)
    assert cfg.model.backbone.zero_init_residual is False
    assert cfg.optim_wrapper.optimizer == dict(
        type='SGD', lr=0.4, momentum=0.9, weight_decay=1e-4, fused=True
    )
    assert cfg.train_cfg.max_epochs == 800
    assert 'paramwise_cfg' not in cfg.optim_wrapper
    steps = [s.type for s in cfg.train_dataloader.dataset.pipeline]
    assert steps == [
        'LoadSceneImage',
        'TwoViewRandomResizedCrop',
        'TwoViewRandomFlip',
        'SamplePhotometrics',
        'PackTwoViewInputs',
    ]
    view1, view2 = cfg.train_dataloader.dataset.pipeline[3].views
    assert view1 == dict(
        jitter=0.8,
        brightness=0.4,
        contrast=0.4,
        saturation=0.2,
        hue=0.1,
        grayscale=0.2,
        blur=1.0,
        sigma=(0.1, 2.0),
        solarize=0.0,
    )
    assert view2 == dict(view1, blur=0.1, solarize=0.2)


def test_photometrics_in_the_loader():
    """The same numbers in the words of MMPretrain's transforms."""
    cfg = load('pixcon_r50_cpu-aug_coco')
    view1, view2 = cfg.train_dataloader.dataset.pipeline[3].transforms
    found = [
        {step.type: step.get('prob', 1.0) for step in view}
        for view in (view1, view2)
    ]
    same = dict(RandomApply=0.8, RandomGrayscale=0.2)
    assert found[0] == dict(same, GaussianBlur=1.0)
    assert found[1] == dict(same, GaussianBlur=0.1, Solarize=0.2)
    order = ['RandomApply', 'RandomGrayscale', 'GaussianBlur', 'Solarize']
    assert [step.type for step in view1] == order[:3]
    assert [step.type for step in view2] == order
    for view in (view1, view2):
        (jitter,) = view[0].transforms
        assert jitter.type == 'ColorJitter'
        names = ('brightness', 'contrast', 'saturation', 'hue')
        assert [jitter[name] for name in names] == [0.4, 0.4, 0.2, 0.1]
        assert view[1].keep_channels is True
        # Rec. 601, in the order of the channels of a BGR image.
        assert view[1].channel_weights == pytest.approx(
            (0.114, 0.587, 0.299), abs=2e-4
        )
        assert view[2].magnitude_range == (0.1, 2.0)
        # Uniform: the magnitude has no preferred value.
        assert view[2].magnitude_std == 'inf'
    assert view2[3].thr == 128


def test_crops_of_the_main_recipe():
    """Reference file, section 2.1; defaults of the classes included."""
    cfg = load('pixcon_r50_coco')
    crop, flip = (
        TRANSFORMS.build(step)
        for step in cfg.train_dataloader.dataset.pipeline[1:3]
    )
    assert crop.scale == (224, 224)
    assert crop.area_range == (0.08, 1.0)
    assert crop.aspect_range == pytest.approx((3 / 4, 4 / 3))
    assert crop.min_overlap == 0.01
    assert crop.max_tries == 10
    assert crop.interpolation == 'bilinear'
    assert flip.prob == 0.5


def test_variants_differ_in_what_their_name_says():
    base = load('pixcon_r50_coco')
    for name, changes in {
        'pixcon-sim_r50_coco': {'model.head.reweight': None},
        'pixcon-coord_r50_coco': {
            'model.head.reweight': None,
            'model.head.matching': 'coordinate',
        },
        'mocov2plus_r50_coco': {'model.loss_lambda': 0},
        'pixcon_r50_1gpu_coco': {
            'train_dataloader.batch_size': 128,
            'optim_wrapper.accumulative_counts': 4,
        },
    }.items():
        expected = base.copy()
        expected.merge_from_dict(changes)
        assert load(name).to_dict() == expected.to_dict(), name
