"""Every recipe loads, builds, uses what it defines, and is in the index."""

import ast
import inspect
import re

# Frameworks first: conftest.py keeps what is there out of collections.
import mmdet.datasets
import mmdet.models  # noqa: F401
import mmseg.datasets
import mmseg.models  # noqa: F401
import modelindex
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from mmpretrain.registry import TRANSFORMS
from torch import nn

from pixcon_mm.cli import set_epochs
from pixcon_mm.config import EXTRA_KEYS, load_config
from pixcon_mm.engine import PixConRunner
from tests import ROOT, benchmarks
from tests.test_datasets.pictures import write_pictures

FILES = sorted((ROOT / 'configs').rglob('*.py'))
RECIPES = [path for path in FILES if '_base_' not in path.parts]
PRETRAIN = [path for path in RECIPES if path.parent.name == 'pretrain']
FINETUNE = [path for path in RECIPES if path not in PRETRAIN]
READ_BY_RUNNER = {
    *inspect.signature(Runner).parameters,
    *EXTRA_KEYS,
    *('_base_', 'custom_imports'),
}


@pytest.fixture(autouse=True)
def _no_random_weights(monkeypatch):
    """No test here reads a weight, and drawing them takes a second each."""
    monkeypatch.setattr(nn.init, 'kaiming_uniform_', lambda x, *_, **__: x)


def stem(path):
    return path.stem


def load(name):
    return load_config(str(ROOT / f'configs/pretrain/{name}.py'))


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


@pytest.mark.parametrize('path', FILES, ids=stem)
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
    paths = {path.relative_to(ROOT).as_posix(): path for path in RECIPES}
    assert len(index.models) == len(paths)
    assert models.keys() == paths.keys()
    for file, model in models.items():
        cfg, data = load_config(str(paths[file])), model.metadata.data
        assert model.name == paths[file].stem
        assert data['Batch Size'] == cfg.auto_scale_lr.base_batch_size
        length = (
            cfg.train_cfg.get('max_epochs'),
            cfg.train_cfg.get('max_iters'),
        )
        assert (data.get('Epochs'), data.get('Iterations')) == length


def build(path, folder, loaders, options):
    """Load a recipe for two images a step and loaders without workers."""
    options = {
        'work_dir': f'{folder}/work',
        'experiment_name': path.stem,
        'train_dataloader.batch_size': 2,
        **options,
    }
    for loader in loaders:
        options[f'{loader}_dataloader.num_workers'] = 0
        options[f'{loader}_dataloader.persistent_workers'] = False
    cfg = load_config(str(path), options)
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


@pytest.mark.parametrize('path', PRETRAIN, ids=stem)
def test_pretraining_builds_and_feeds_the_model(path, tmp_path):
    options = {
        'data_root': str(write_pictures(tmp_path / 'images', 2)),
        'train_dataloader.pin_memory': False,
    }
    cfg = build(path, tmp_path, ['train'], options)
    runner = PixConRunner.from_cfg(cfg)
    loop = check_built(cfg, runner)
    # One group: nothing that is trained escapes weight decay.
    (group,) = runner.optim_wrapper.param_groups
    assert group['weight_decay'] == cfg.optim_wrapper.optimizer.weight_decay
    batch = runner.model.data_preprocessor(next(iter(loop.dataloader)), True)
    is_small = path.stem.endswith(('_small', '_demo'))
    size = 64 if is_small else 224
    assert len(batch['inputs']) == 2
    for view in batch['inputs']:
        assert view.shape == (2, 3, size, size)
        assert view.is_floating_point()
    assert not batch['inputs'][0].equal(batch['inputs'][1])


@pytest.mark.parametrize('path', FINETUNE, ids=stem)
def test_finetuning_builds_and_feeds_the_model(path, tmp_path):
    options = {
        'data_root': f'{tmp_path}/data/',
        'default_hooks.pretrained.source': 'none',
    }
    if '_custom' in path.stem:
        options['classes'] = ('a', 'b', 'c')
    cfg = build(path, tmp_path, ['train', 'val', 'test'], options)
    # The new folder reached every place.
    assert load_config(str(path)).data_root not in str(cfg._cfg_dict)
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


@pytest.mark.parametrize('path', RECIPES, ids=stem)
def test_a_recipe_reads_the_same_without_this_project(path):
    assert load_config(str(path)).to_dict() == Config.fromfile(path).to_dict()


def test_numbers_of_the_main_recipe():
    """docs/method.md, sections 1, 3 and 6 to 9, and sound defaults."""
    cfg = load('pixcon_r50_coco')
    for part in (cfg.model.backbone, cfg.model.neck, cfg.model.head):
        assert part.norm_cfg.type == 'SyncBN'
    preprocessor = cfg.model.data_preprocessor
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    assert [x / 255 for x in preprocessor.mean] == pytest.approx(mean)
    assert [x / 255 for x in preprocessor.std] == pytest.approx(std)
    assert preprocessor.bgr_to_rgb is True
    for key, value in {
        'model.queue_len': 65536,
        'model.base_momentum': 1 - 0.99,
        'model.end_momentum': 0,
        'model.loss_lambda': 0.5,
        'model.backbone.depth': 50,
        'model.backbone.zero_init_residual': False,
        'model.neck.hid_channels': 2048,
        'model.neck.out_channels': 128,
        'model.head.hid_channels': 2048,
        'model.head.channels': 128,
        'model.head.matching': 'similarity',
        'model.head.reweight': dict(power=2, use_mask=True),
        'model.head.loss.temperature': 0.2,
        'train_dataloader.drop_last': True,
        'train_dataloader.batch_size': 512 // 8,
        'optim_wrapper.type': 'AmpOptimWrapper',
        'optim_wrapper.dtype': 'float16',
        'optim_wrapper.optimizer.lr': 0.4,
        'optim_wrapper.optimizer.momentum': 0.9,
        'optim_wrapper.optimizer.weight_decay': 1e-4,
        'train_cfg.max_epochs': 800,
        'randomness.seed': 0,
    }.items():
        found = cfg
        for name in key.split('.'):
            found = found[name]
        is_float = isinstance(value, float)
        assert found == (pytest.approx(value) if is_float else value), key
    assert not {'clip_grad', 'paramwise_cfg'} & {*cfg.optim_wrapper}
    steps = cfg.train_dataloader.dataset.pipeline
    crop, flip = map(TRANSFORMS.build, steps[1:3])
    assert (crop.scale, crop.area_range) == ((224, 224), (0.08, 1.0))
    assert crop.aspect_range == pytest.approx((3 / 4, 4 / 3))
    assert (crop.min_overlap, crop.max_tries) == (0.01, 10)
    assert flip.prob == 0.5
    same = dict(jitter=0.8, brightness=0.4, contrast=0.4, saturation=0.2)
    same |= dict(hue=0.1, grayscale=0.2, sigma=(0.1, 2.0))
    views = steps[3].views
    assert views[0] == dict(same, blur=1.0, solarize=0.0)
    assert views[1] == dict(same, blur=0.1, solarize=0.2)


def test_photometrics_in_the_loader():
    """docs/method.md, section 3.2, by MMPretrain's transforms."""
    cfg = load('pixcon_r50_cpu-aug_coco')
    views = cfg.train_dataloader.dataset.pipeline[3].transforms
    same = [('RandomApply', 0.8), ('RandomGrayscale', 0.2)]
    assert [[(s.type, s.prob) for s in view] for view in views] == [
        [*same, ('GaussianBlur', 1.0)],
        [*same, ('GaussianBlur', 0.1), ('Solarize', 0.2)],
    ]
    for apply, gray, blur, *_ in views:
        (jitter,) = apply.transforms
        names = ('brightness', 'contrast', 'saturation', 'hue')
        assert [jitter[name] for name in names] == [0.4, 0.4, 0.2, 0.1]
        # Rec. 601, in the order of the channels of a BGR image.
        rec_601 = pytest.approx((0.114, 0.587, 0.299), abs=2e-4)
        assert gray.channel_weights == rec_601
        # Uniform: the magnitude has no preferred value.
        assert (blur.magnitude_std, blur.magnitude_range) == ('inf', (0.1, 2))
    assert views[1][3].thr == 128


@pytest.mark.parametrize('epochs', [100, 200])
def test_shorter_schedules_are_those_of_the_option(epochs):
    """A recipe of N epochs is the main one with --epochs N."""
    main, short = load('pixcon_r50_coco'), load(f'pixcon_r50_{epochs}e_coco')
    expected = main.copy()
    set_epochs(expected, epochs)
    assert short.to_dict() == expected.to_dict()
