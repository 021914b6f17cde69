"""BYOL and DenseCL against MMPretrain's own configs and the release.

Model and augmentation are compared with MMPretrain's files as in
test_protocol.py; the schedule is the release's (docs/method.md, section 9).
"""

import pytest

from pixcon_mm.config import load_config
from tests import ROOT
from tests.test_protocol import differences, plain, stock

BYOL = 'byol/byol_resnet50_16xb256-coslr-200e_in1k.py'
DENSECL = 'densecl/densecl_resnet50_8xb32-coslr-200e_in1k.py'
LOAD = {'pipeline.0': {'type': 'LoadSceneImage'}}  # skips broken images
SYNC_BN = {'type': 'SyncBN'}


def load(name):
    return load_config(str(ROOT / f'configs/pretrain/{name}.py'))


def without_defaults(steps):
    """Leave out steps of probability 0, and the jitter's backend."""
    if not isinstance(steps, tuple):
        return steps
    kept = []
    for step in steps:
        if isinstance(step, dict):
            if step.get('prob') == 0:
                continue
            step = dict(step)
            if step['type'] == 'ColorJitter':
                step.pop('backend', None)
            for key in {'transforms'} & step.keys():
                step[key] = without_defaults(step[key])
        else:
            step = without_defaults(step)
        kept.append(step)
    return tuple(kept)


TABLES = {
    'byol_r50_coco': {
        **LOAD,
        'model.neck.norm_cfg': SYNC_BN,
        'model.head.predictor.norm_cfg': SYNC_BN,
    },
    'densecl_r50_coco': {**LOAD, 'pipeline.1.num_views': (2,)},
}


@pytest.mark.parametrize(
    ('name', 'file'), [('byol_r50_coco', BYOL), ('densecl_r50_coco', DENSECL)]
)
def test_model_and_augmentation_are_those_of_mmpretrain(name, file):
    ours, theirs = load(name), stock('mmpretrain', file)
    # MMEngine joins it to the model when it builds that.
    theirs.model.data_preprocessor = theirs.data_preprocessor
    ours, theirs = (
        dict(
            model=plain(cfg.model),
            pipeline=without_defaults(
                plain(cfg.train_dataloader.dataset.pipeline)
            ),
        )
        for cfg in (ours, theirs)
    )
    assert differences(ours, theirs) == TABLES[name]


@pytest.mark.parametrize(
    ('name', 'lr', 'precision'),
    [
        ('byol_r50_coco', 0.4, 'OptimWrapper'),
        ('densecl_r50_coco', 0.3, 'AmpOptimWrapper'),
    ],
)
def test_schedule_is_that_of_the_release(name, lr, precision):
    cfg = load(name)
    warmup, cosine = cfg.param_scheduler
    assert (warmup.type, warmup.start_factor) == ('WarmupLR', 1e-4)
    assert (warmup.end, warmup.by_epoch) == (4, True)
    assert (cosine.type, cosine.T_max) == ('CosineAnnealingLR', 800)
    # By epochs, in steps, as the release.
    assert (cosine.by_epoch, 'convert_to_iter_based' in cosine) == (True, 0)
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr) == ('SGD', lr)
    assert (optimizer.momentum, optimizer.weight_decay) == (0.9, 1e-4)
    assert cfg.optim_wrapper.type == precision
    assert cfg.auto_scale_lr.base_batch_size == 512
    assert cfg.train_cfg.max_epochs == 800
