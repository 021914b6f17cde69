"""Every recipe loads, builds, uses what it defines, and is in the index."""

import ast
import inspect
import re
from pathlib import Path

# Frameworks first: conftest.py keeps what is there out of collections.
import mmdet.datasets
import mmdet.models  # noqa: F401
import mmseg.datasets
import mmseg.models  # noqa: F401
import modelindex
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import PARAM_SCHEDULERS
from mmengine.runner import Runner
from torch import nn

from pixcon_mm.cli import set_epochs
from pixcon_mm.config import load_config
from pixcon_mm.config_variables import EXTRA_KEYS
from pixcon_mm.engine import PixConRunner
from tests import ROOT, benchmarks
from tests.recipes import CONFIGS, list_recipes, load, path_of
from tests.test_datasets.pictures import write_pictures

FILES = sorted(CONFIGS.rglob('*.py'))
READ_BY_RUNNER = {
    *inspect.signature(Runner).parameters,
    *EXTRA_KEYS,
    *('_base_', 'custom_imports'),
}


@pytest.fixture(autouse=True)
def _no_random_weights(monkeypatch):
    """No test here reads a weight, and drawing them takes a second each."""
    monkeypatch.setattr(nn.init, 'kaiming_uniform_', lambda x, *_, **__: x)


def names_of(path):
    """Names that a config assigns, reads, and takes from its bases."""
    nodes = list(ast.walk(ast.parse(path.read_text())))
    names = [node for node in nodes if isinstance(node, ast.Name)]
    assigned = {n.id for n in names if isinstance(n.ctx, ast.Store)}
    read = {n.id for n in names if isinstance(n.ctx, ast.Load)}
    from_bases = {
        node.attr
        for node in nodes
        if isinstance(node, ast.Attribute)
        and getattr(node.value, 'id', '') == '_base_'
    }
    return assigned, read, from_bases


def bases(path):
    """Yield the files that a config builds on, all levels."""
    found = re.findall(r"'(\.\.?/[^']+\.py)'", path.read_text())
    for base in [(path.parent / name).resolve() for name in found]:
        yield base
        yield from bases(base)


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_every_variable_is_used(path):
    assigned, used, _ = names_of(path)
    for child in FILES:
        if path in bases(child):
            used = used | names_of(child)[2]
    assert assigned <= used | READ_BY_RUNNER


def test_index_lists_every_recipe():
    index = modelindex.load(str(ROOT / 'model-index.yml'))
    index.build_models_with_collections()
    models = {model.config: model for model in index.models}
    assert len(index.models) == len(models)
    assert models.keys() == {f'configs/{name}.py' for name in list_recipes()}
    for file, model in models.items():
        cfg, data = load_config(str(ROOT / file)), model.metadata.data
        assert model.name == Path(file).stem
        assert data['Batch Size'] == cfg.auto_scale_lr.base_batch_size
        length = (
            cfg.train_cfg.get('max_epochs'),
            cfg.train_cfg.get('max_iters'),
        )
        assert (data.get('Epochs'), data.get('Iterations')) == length


def build(name, folder, loaders, options):
    """Load a recipe for two images a step and loaders without workers."""
    options = {
        'work_dir': f'{folder}/work',
        'experiment_name': Path(name).name,
        'train_dataloader.batch_size': 2,
        **options,
    }
    for loader in loaders:
        options[f'{loader}_dataloader.num_workers'] = 0
        options[f'{loader}_dataloader.persistent_workers'] = False
    cfg = load(name, options)
    if 'queue_len' in cfg.model:
        cfg.model.queue_len = 8  # its content is not looked at here
    return cfg


def check_built(cfg, runner):
    """Check optimiser, schedulers and hooks; return the training loop."""
    loop = runner._train_loop = runner.build_train_loop(runner._train_loop)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    groups = runner.optim_wrapper.param_groups
    trained = {id(p) for group in groups for p in group['params']}
    for name, parameter in runner.model.named_parameters():
        assert id(parameter) in trained or not parameter.requires_grad, name
    schedulers = runner.build_param_scheduler(runner.param_schedulers)
    assert len(schedulers) == len(cfg.param_scheduler)
    hooks = [*cfg.default_hooks.values(), *cfg.get('custom_hooks', [])]
    names = {type(hook).__name__ for hook in runner.hooks}
    assert names >= {hook.type for hook in hooks}
    return loop


@pytest.mark.parametrize('name', list_recipes('pretrain'))
def test_pretraining_builds_and_feeds_the_model(name, tmp_path):
    options = {
        'data_root': str(write_pictures(tmp_path / 'images', 2)),
        'train_dataloader.pin_memory': False,
    }
    cfg = build(name, tmp_path, ['train'], options)
    runner = PixConRunner.from_cfg(cfg)
    loop = check_built(cfg, runner)
    # One group: nothing that is trained escapes weight decay.
    (group,) = runner.optim_wrapper.param_groups
    assert group['weight_decay'] == cfg.optim_wrapper.optimizer.weight_decay
    batch = runner.model.data_preprocessor(next(iter(loop.dataloader)), True)
    is_small = name.endswith(('_small', '_demo'))
    size = 64 if is_small else 224
    assert len(batch['inputs']) == 2
    for view in batch['inputs']:
        assert view.shape == (2, 3, size, size)
        assert view.is_floating_point()
    assert not batch['inputs'][0].equal(batch['inputs'][1])


@pytest.mark.parametrize('name', list_recipes('*tion'))
def test_finetuning_builds_and_feeds_the_model(name, tmp_path):
    options = {
        'data_root': f'{tmp_path}/data/',
        'default_hooks.pretrained.source': 'none',
    }
    if '_custom' in name:
        options['classes'] = ('a', 'b', 'c')
    cfg = build(name, tmp_path, ['train', 'val', 'test'], options)
    # The new folder reached every place.
    assert load(name).data_root not in str(cfg._cfg_dict)
    benchmarks.write_data(cfg, f'{tmp_path}/data')
    runner = PixConRunner.from_cfg(cfg)
    train = check_built(cfg, runner)
    assert all(p.requires_grad for p in runner.model.parameters())
    runner._val_loop = runner.build_val_loop(runner._val_loop)
    assert runner.test_loop.evaluator.metrics

    batch = next(iter(train.dataloader))
    assert len(batch['inputs']) == len(batch['data_samples']) == 2
    assert batch['inputs'][0].dtype == torch.uint8
    fed = runner.model.data_preprocessor(batch, True)
    assert fed['inputs'].is_floating_point()
    sample = fed['data_samples'][0]
    if 'crop_size' in cfg:
        assert fed['inputs'].shape == (2, 3, *cfg.crop_size)
        assert sample.gt_sem_seg.shape == cfg.crop_size
    else:
        data = cfg.train_dataloader.dataset
        scales = data.get('datasets', [data])[0].pipeline[2].scales
        width, height = benchmarks.WIDTH, benchmarks.HEIGHT
        factors = [min(w / width, h / height) for w, h in scales]
        short = {int(height * factor + 0.5) for factor in factors}
        assert min(sample.img_shape) in short
        assert len(sample.gt_instances) == 2
    # One image is tested at a time, at one size.
    (image,) = next(iter(runner.val_loop.dataloader))['inputs']
    assert image.dtype == torch.uint8


@pytest.mark.parametrize('name', list_recipes())
def test_a_recipe_reads_the_same_without_this_project(name):
    theirs = Config.fromfile(path_of(name))
    assert load(name).to_dict() == theirs.to_dict()


@pytest.mark.parametrize('epochs', [100, 200])
def test_shorter_schedules_are_those_of_the_option(epochs):
    """A recipe of N epochs is the main one with --epochs N."""
    main, short = (
        load(f'pretrain/pixcon_r50_{name}')
        for name in ('coco', f'{epochs}e_coco')
    )
    expected = main.copy()
    set_epochs(expected, epochs)
    assert short.to_dict() == expected.to_dict()


@pytest.mark.parametrize(
    'name', ['detection/mask-rcnn_r18-fpn_demo', 'segmentation/fcn_r18_demo']
)
def test_length_and_end_are_all_that_a_longer_demo_needs(name):
    """See docs/your_data.md."""
    cfg = load(name)
    length = 2 * cfg.train_cfg.max_iters
    place = len(cfg.param_scheduler) - 1
    cfg = load(name, {f'param_scheduler.{place}.end': length})
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    schedulers = [
        PARAM_SCHEDULERS.build(dict(part, optimizer=optimizer))
        for part in cfg.param_scheduler
    ]
    rates = []
    for _ in range(length):
        rates.append(optimizer.param_groups[0]['lr'])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    assert rates[length // 2 :] == sorted(rates[length // 2 :], reverse=True)
    assert rates[-1] < 0.01 < rates[length // 2]
