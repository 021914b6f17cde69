"""BYOL and DenseCL against the sources that their headers state.

The model and the augmentation are compared with MMPretrain's own files, every
difference named; the schedule with the release's (reference file, section
3.2).
"""

from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmpretrain.registry import MODELS

from pixcon_mm.config import load_config
from tests import toy
from tests.test_protocol import leaves, plain

ROOT = Path(__file__).resolve().parents[1]
PATH = Path(find_spec('mmpretrain').origin).parent / '.mim/configs'
BYOL = PATH / 'byol/byol_resnet50_16xb256-coslr-200e_in1k.py'
DENSECL = PATH / 'densecl/densecl_resnet50_8xb32-coslr-200e_in1k.py'

# (here, there). The first are defaults written out.
NORM = ('SyncBN', None)
JITTER = ('pillow', None)
DIFFERENCES = {
    'byol_r50_coco': {
        'model.neck.norm_cfg.type': NORM,
        'model.head.predictor.norm_cfg.type': NORM,
        'pipeline.1.transforms.0.2.transforms.0.backend': JITTER,
        'pipeline.1.transforms.1.2.transforms.0.backend': JITTER,
        # With probability 0, it is left out.
        'pipeline.1.transforms.0.5.type': (None, 'Solarize'),
        'pipeline.1.transforms.0.5.thr': (None, 128),
        'pipeline.1.transforms.0.5.prob': (None, 0.0),
        # Skips what cannot be read.
        'pipeline.0.type': ('LoadSceneImage', 'LoadImageFromFile'),
    },
    'densecl_r50_coco': {
        'pipeline.1.transforms.0.1.transforms.0.backend': JITTER,
        'pipeline.1.num_views': (None, 2),
        'pipeline.1.num_views.0': (2, None),
        'pipeline.0.type': ('LoadSceneImage', 'LoadImageFromFile'),
    },
}


@pytest.fixture(autouse=True)
def _framework_state():
    with toy.framework_state():
        yield


def load(name):
    return load_config(str(ROOT / f'configs/pretrain/{name}.py'))


@pytest.mark.parametrize(
    ('name', 'source'),
    [('byol_r50_coco', BYOL), ('densecl_r50_coco', DENSECL)],
)
def test_model_and_augmentation_are_those_of_mmpretrain(name, source):
    if not source.is_file():
        pytest.skip('MMPretrain is installed without its configs')
    ours, theirs = load(name), Config.fromfile(str(source))
    # MMEngine joins it to the model when it builds that.
    theirs.model.data_preprocessor = theirs.data_preprocessor
    here, there = (
        leaves(
            {
                'model': plain(cfg.model),
                'pipeline': plain(cfg.train_dataloader.dataset.pipeline),
            }
        )
        for cfg in (ours, theirs)
    )
    assert {
        key: (here.get(key), there.get(key))
        for key in {*here, *there}
        if here.get(key) != there.get(key)
    } == DIFFERENCES[name]


def test_last_layers_of_byol_have_no_bias():
    cfg = load('byol_r50_coco')
    for part in (cfg.model.neck, cfg.model.head.predictor):
        layers = [
            layer
            for layer in MODELS.build(part).modules()
            if isinstance(layer, torch.nn.Linear)
        ]
        assert [layer.bias is not None for layer in layers] == [True, False]


def test_schedule_is_that_of_the_release():
    """Epochs of warm-up, its start, rate, batch and precision."""
    main = load('pixcon_r50_coco')
    for name, lr, precision in (
        ('byol_r50_coco', 0.4, 'OptimWrapper'),
        ('densecl_r50_coco', 0.3, 'AmpOptimWrapper'),
    ):
        cfg = load(name)
        warmup, cosine = cfg.param_scheduler
        assert (warmup.type, warmup.end) == ('WarmupLR', 4)
        assert (warmup.start_factor, warmup.by_epoch) == (1e-4, True)
        assert (cosine.type, cosine.T_max) == ('CosineAnnealingLR', 800)
        assert cfg.param_scheduler == main.param_scheduler
        optimizer = cfg.optim_wrapper.optimizer
        assert (optimizer.type, optimizer.lr) == ('SGD', lr)
        assert (optimizer.momentum, optimizer.weight_decay) == (0.9, 1e-4)
        assert cfg.optim_wrapper.type == precision
        assert cfg.auto_scale_lr.base_batch_size == 512
        assert cfg.train_cfg.max_epochs == 800


def test_lambda_of_densecl_is_constant():
    """No recipe of DenseCL, MMPretrain or the release has its hook on."""
    cfg = load('densecl_r50_coco')
    hooks = [*cfg.default_hooks.values(), *cfg.get('custom_hooks', [])]
    assert 'DenseCLHook' not in {hook['type'] for hook in hooks}
    assert cfg.model.loss_lambda == 0.5
