"""Every recipe loads, builds, and uses all that it defines."""

import ast
import inspect
import re
from pathlib import Path

import pytest
from mmengine.runner import Runner

from pixcon_mm.config import EXTRA_KEYS, load_config
from pixcon_mm.engine import PixConRunner
from tests import toy
from tests.test_datasets.pictures import write_pictures

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / 'configs').rglob('*.py'))
PRETRAIN = sorted((ROOT / 'configs/pretrain').glob('*.py'))
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


@pytest.mark.parametrize('path', PRETRAIN, ids=stem)
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


def load(name):
    return load_config(str(ROOT / f'configs/pretrain/{name}.py'))


def test_numbers_of_the_main_recipe():
    """Reference file, sections 1.1, 2.1 and 3.1."""
    cfg = load('pixcon_r50_coco')
    assert cfg.model.queue_len == 65536
    assert (cfg.model.base_momentum, cfg.model.end_momentum) == (0.01, 0.0)
    assert cfg.model.loss_lambda == 0.5
    assert cfg.model.head.loss.temperature == 0.2
    assert cfg.model.head.reweight == dict(power=2, use_mask=True)
    assert cfg.model.backbone.zero_init_residual is False
    assert cfg.optim_wrapper.optimizer == dict(
        type='SGD', lr=0.4, momentum=0.9, weight_decay=1e-4
    )
    assert cfg.train_cfg.max_epochs == 800
    assert 'paramwise_cfg' not in cfg.optim_wrapper
    steps = [s.type for s in cfg.train_dataloader.dataset.pipeline]
    assert steps == [
        'LoadSceneImage',
        'TwoViewRandomResizedCrop',
        'TwoViewRandomFlip',
        'PerViewTransforms',
        'PackTwoViewInputs',
    ]
    view1, view2 = cfg.train_dataloader.dataset.pipeline[3].transforms
    found = [
        {step.type: step.get('prob', 1.0) for step in view}
        for view in (view1, view2)
    ]
    same = dict(RandomApply=0.8, RandomGrayscale=0.2)
    assert found[0] == dict(same, GaussianBlur=1.0)
    assert found[1] == dict(same, GaussianBlur=0.1, Solarize=0.2)


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
