"""BYOL and DenseCL against MMPretrain, compared as in test_protocol.py."""

import pytest

from tests.recipes import load
from tests.test_protocol import differences, plain, stock

BYOL = 'byol/byol_resnet50_16xb256-coslr-200e_in1k.py'
DENSECL = 'densecl/densecl_resnet50_8xb32-coslr-200e_in1k.py'
LOAD = {'pipeline.0': {'type': 'LoadSceneImage'}}  # skips broken images
SYNC_BN = {'type': 'SyncBN'}


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
    ours, theirs = load(f'pretrain/{name}'), stock('mmpretrain', file)
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
