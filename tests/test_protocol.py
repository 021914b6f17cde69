"""Recipes against the own configs of MMDetection and the other frameworks.

Each recipe is compared with the installed file that is nearest to it. All
that differs is in a table, with our value, which is that of docs/method.md,
section 10; what is not in the table is as there. A table that names a value
that does not differ fails too.
"""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS

from pixcon_mm.classes import datasets
from tests import recipes

PARTS = (
    'model',
    'train_dataloader',
    'val_dataloader',
    'val_evaluator',
    'optim_wrapper',
    'param_scheduler',
    'train_cfg',
    'custom_hooks',
)
# Defaults of classes, which some files write out.
DEFAULTS = {
    ('backend_args', None),
    ('begin', 0),
    ('debug', False),
    ('format_only', False),
    ('ignore_iof_thr', -1),
    ('loss_weight', 1.0),
    ('neg_pos_ub', -1),
    ('num_stages', 4),
    ('requires_grad', True),
}
# Weights come from PretrainedHook.
ABSENT = {'init_cfg', 'pretrained'}
LOADING = {'num_workers'}  # no result depends on it
SYNC_BN = {'type': 'SyncBN'}
# Nothing is frozen, every batch norm is trained.
BACKBONE = {
    'model.backbone.frozen_stages': -1,
    'model.backbone.norm_cfg': SYNC_BN,
    'model.backbone.norm_eval': False,
    'model.backbone.zero_init_residual': False,
}


def steps(*milestones):
    return dict(
        type='MultiStepLR', by_epoch=False, milestones=milestones, gamma=0.1
    )


def detector(*milestones, warmup=1000):
    """Differences of all detectors: detectron2's schedule."""
    warming = dict(type='WarmupLR', start_factor=0.001, by_epoch=False)
    return {
        **BACKBONE,
        'custom_hooks': (dict(type='PreciseBatchNormHook', num_batches=200),),
        'optim_wrapper.paramwise_cfg': dict(norm_decay_mult=0.0),
        'param_scheduler': (dict(warming, end=warmup), steps(*milestones)),
    }


def by_iterations(length, long, sizes):
    """Differences from files that count epochs and have one image size."""
    loop = dict(type='IterBasedTrainLoop')
    scales = tuple((long, short) for short in sizes)
    return {
        'train_dataloader.sampler': dict(type='InfiniteSampler', shuffle=True),
        'train_dataloader.dataset.filter_cfg.min_size': None,
        'train_dataloader.dataset.pipeline.2': dict(
            type='RandomChoiceResize', keep_ratio=True, scales=scales
        ),
        'train_cfg': dict(loop, max_iters=length, val_interval=length),
    }


# RGB, stride in the 3x3 convolution, extra norm.
C4 = {
    'model.data_preprocessor.mean': (123.675, 116.28, 103.53),
    'model.data_preprocessor.std': (58.395, 57.12, 57.375),
    'model.data_preprocessor.bgr_to_rgb': True,
    'model.data_preprocessor.pad_size_divisor': 1,
    'model.backbone.style': 'pytorch',
    'model.roi_head.shared_head': dict(
        **dict(type='ResLayerExtraNorm', depth=50, stage=3, stride=2),
        **dict(dilation=1, style='pytorch', norm_cfg=SYNC_BN, norm_eval=False),
    ),
}
FPN = {
    'model.neck.norm_cfg': SYNC_BN,
    'model.train_cfg.rcnn.assigner.match_low_quality': False,
}
COCO_SIZES = range(640, 801, 32)


def fpn_4conv(*milestones, end):
    """Heads with SyncBN and four convolutions."""
    return {
        **detector(*milestones),
        **FPN,
        **by_iterations(end, 1333, COCO_SIZES),
        'model.roi_head.bbox_head.type': 'Shared4Conv1FCBBoxHead',
        'model.roi_head.bbox_head.conv_out_channels': 256,
        'model.roi_head.bbox_head.norm_cfg': SYNC_BN,
        'model.roi_head.mask_head.norm_cfg': SYNC_BN,
    }


DETECTION = {
    'mask-rcnn_r50-fpn_1x_coco': (
        'mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py',
        fpn_4conv(60000, 80000, end=90000),
    ),
    'mask-rcnn_r50-fpn_2x_coco': (
        'mask_rcnn/mask-rcnn_r50_fpn_2x_coco.py',
        fpn_4conv(120000, 160000, end=180000),
    ),
    'mask-rcnn_r50-c4_1x_coco': (
        'mask_rcnn/mask-rcnn_r50-caffe-c4_1x_coco.py',
        {
            **detector(60000, 80000),
            **C4,
            **by_iterations(90000, 1200, COCO_SIZES),
            'model.train_cfg.rpn.allowed_border': -1,
        },
    ),
    'faster-rcnn_r50-c4_24k_voc0712': (
        'pascal_voc/faster-rcnn_r50-caffe-c4_ms-18k_voc0712.py',
        {
            **detector(18000, 22000, warmup=100),
            **C4,
            'train_dataloader.dataset.ignore_keys': ('dataset_type',),
            'train_dataloader.dataset.datasets.0.filter_cfg.min_size': None,
            'train_dataloader.dataset.datasets.1.filter_cfg.min_size': None,
            'val_evaluator.iou_thrs': tuple(n / 100 for n in range(50, 96, 5)),
            'train_cfg.max_iters': 24000,
            'train_cfg.val_interval': 24000,
        },
    ),
    'mask-rcnn_r50-fpn_24k_cityscapes': (
        'cityscapes/mask-rcnn_r50_fpn_1x_cityscapes.py',
        {
            **detector(18000),
            **FPN,
            **by_iterations(24000, 2048, range(800, 1025, 32)),
            # Inherited, and not used without convolutions.
            'model.roi_head.bbox_head.conv_out_channels': 256,
            'model.roi_head.bbox_head.loss_bbox': {'type': 'L1Loss'},
            'val_dataloader.dataset.filter_cfg': None,
            # COCO's metric alone.
            'val_evaluator': dict(
                type='CocoMetric',
                ann_file='data/cityscapes/annotations/'
                'instancesonly_filtered_gtFine_val.json',
                metric=('bbox', 'segm'),
            ),
        },
    ),
}

SEGMENTATION_COMMON = {
    'model.backbone.type': 'ResNet',
    'model.backbone.frozen_stages': -1,
    'model.backbone.zero_init_residual': False,
}
FCN_D6 = {
    **SEGMENTATION_COMMON,
    'model.decode_head.channels': 256,
    'model.decode_head.concat_input': False,
    'model.decode_head.dropout_ratio': 0.0,
    'model.auxiliary_head': None,
    'optim_wrapper.optimizer.weight_decay': 1e-4,
}


def plain_pipeline(scale, crop_size):
    """Pipeline without photometric distortion and limit of a category."""
    resize = dict(type='RandomResize', scale=scale, keep_ratio=True)
    return (
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations'),
        dict(resize, ratio_range=(0.5, 2.0)),
        dict(type='RandomCrop', crop_size=crop_size),
        dict(type='RandomFlip', prob=0.5),
        dict(type='PackSegInputs'),
    )


VOC_PIPELINE = plain_pipeline((2049, 513), (513, 513))
# The release has its VOC recipe's schedule for both.
SCHEDULE_30K = {
    'optim_wrapper.optimizer.lr': 0.003,
    'param_scheduler': (steps(21000, 27000),),
    'train_cfg.max_iters': 30000,
    'train_cfg.val_interval': 30000,
}
# The data set passes it to the step here.
ZERO_LABEL = {
    'train_dataloader.dataset.pipeline.1.reduce_zero_label': None,
    'val_dataloader.dataset.pipeline.2.reduce_zero_label': None,
}
SEGMENTATION = {
    'fcn_r50-d8_40k_cityscapes': (
        'fcn/fcn_r50-d8_4xb2-40k_cityscapes-769x769.py',
        SEGMENTATION_COMMON,
    ),
    'fcn_r50-d8_40k_cityscapes-512x1024': (
        'fcn/fcn_r50-d8_4xb2-40k_cityscapes-512x1024.py',
        SEGMENTATION_COMMON,
    ),
    'fcn_r50-d8_80k_ade20k': (
        'fcn/fcn_r50-d8_4xb4-80k_ade20k-512x512.py',
        SEGMENTATION_COMMON | ZERO_LABEL,
    ),
    'fcn_r50-d8_30k_pascal-context': (
        'fcn/fcn_r50-d8_4xb4-40k_pascal-context-480x480.py',
        SEGMENTATION_COMMON | SCHEDULE_30K,
    ),
    'deeplabv3_r50-d8_20k_coco-stuff10k': (
        'deeplabv3/deeplabv3_r50-d8_4xb4-20k_coco-stuff10k-512x512.py',
        SEGMENTATION_COMMON | ZERO_LABEL,
    ),
    'fcn-d6_r50-d16_90k_cityscapes': (
        'fcn/fcn-d6_r50-d16_4xb2-80k_cityscapes-769x769.py',
        {
            **FCN_D6,
            'train_dataloader.batch_size': 4,
            'train_dataloader.dataset.pipeline': plain_pipeline(
                (2049, 1025), (769, 769)
            ),
            'param_scheduler': (steps(63000, 81000),),
            'train_cfg.max_iters': 90000,
            'train_cfg.val_interval': 45000,
        },
    ),
    'fcn-d6_r50-d16_30k_voc12aug': (
        'fcn/fcn_r50-d8_4xb4-40k_voc12aug-512x512.py',
        {
            **FCN_D6,
            **SCHEDULE_30K,
            'model.data_preprocessor.size': (513, 513),
            'model.backbone.strides': (1, 2, 2, 1),
            'model.backbone.dilations': (1, 1, 1, 2),
            'model.decode_head.dilation': 6,
            'model.decode_head.align_corners': True,
            'train_dataloader.dataset.datasets.0.pipeline': VOC_PIPELINE,
            'train_dataloader.dataset.datasets.1.pipeline': VOC_PIPELINE,
            'val_dataloader.dataset.pipeline.1.scale': (2049, 513),
        },
    ),
}


def plain(node):
    """Drop defaults and types of containers, and slashes at the end."""
    if isinstance(node, dict):
        return {
            key: plain(value)
            for key, value in node.items()
            if key not in ABSENT | LOADING
            and (
                isinstance(value, dict | list) or (key, value) not in DEFAULTS
            )
        }
    if isinstance(node, list | tuple):
        return tuple(map(plain, node))
    return node.rstrip('/') if isinstance(node, str) else node


def differences(ours, theirs, path=''):
    """Our values where two configs differ, by dotted key.

    Parts of one type, or in one place of a model, are entered; other parts
    and steps of another type differ as a whole.
    """
    if ours == theirs:
        return {}
    is_part = not path.rpartition('.')[2].isdigit()
    both = [ours, theirs]
    if all(isinstance(node, dict) for node in both) and (
        ours.get('type') == theirs.get('type') or path in ENTERED
    ):
        keys = {**ours, **theirs}
        pairs = {key: (ours.get(key), theirs.get(key)) for key in keys}
    elif (
        is_part
        and path != 'param_scheduler'
        and all(isinstance(node, tuple) for node in both)
        and len(ours) == len(theirs)
        and all(isinstance(node, dict) for node in ours + theirs)
    ):
        pairs = dict(enumerate(zip(ours, theirs, strict=True)))
    else:
        return {path: ours}
    found = {}
    for key, pair in pairs.items():
        found |= differences(*pair, f'{path}.{key}' if path else str(key))
    return found


ENTERED = {'model.backbone', 'model.roi_head.bbox_head'}


def stock(package, file):
    path = Path(find_spec(package).origin).parent / '.mim/configs' / file
    if not path.is_file():
        pytest.skip(f'{package} is installed without its configs')
    return Config.fromfile(str(path))


def check(task, name, theirs, table):
    ours = recipes.load(f'{task}/{name}')
    assert ours.test_dataloader == ours.val_dataloader
    assert ours.test_evaluator == ours.val_evaluator
    # Its source is an option of tools/train.py.
    assert ours.default_hooks.pretrained == {'type': 'PretrainedHook'}
    assert not any(repr(name) in str(ours.model) for name in ABSENT)
    # The names are those of the class, written out.
    for _, dataset in datasets(ours):
        kind = DATASETS.get(f'{ours.default_scope}.{dataset.type}')
        names = dict(dataset.pop('metainfo'))
        assert names == {'classes': tuple(kind.METAINFO['classes'])}
    ours, theirs = (
        plain({part: cfg.get(part) for part in PARTS})
        for cfg in (ours, theirs)
    )
    assert differences(ours, theirs) == table


@pytest.mark.parametrize('name', DETECTION)
def test_detection(name):
    file, table = DETECTION[name]
    theirs = stock('mmdet', file)
    data = theirs.train_dataloader.dataset
    if data.type == 'RepeatDataset':
        # Iterations are counted here, not epochs.
        theirs.train_dataloader.dataset = data.dataset
    if 'voc' not in name:
        # The metric reads its own file.
        del theirs.val_dataloader.dataset.pipeline[2]
    check('detection', name, theirs, table)


@pytest.mark.parametrize('name', SEGMENTATION)
def test_segmentation(name):
    file, table = SEGMENTATION[name]
    check('segmentation', name, stock('mmseg', file), table)


LOAD = {'pipeline.0': {'type': 'LoadSceneImage'}}  # skips broken images
BASELINES = {
    'byol_r50_coco': (
        'byol/byol_resnet50_16xb256-coslr-200e_in1k.py',
        {
            **LOAD,
            'model.neck.norm_cfg': SYNC_BN,
            'model.head.predictor.norm_cfg': SYNC_BN,
        },
    ),
    'densecl_r50_coco': (
        'densecl/densecl_resnet50_8xb32-coslr-200e_in1k.py',
        {**LOAD, 'pipeline.1.num_views': (2,)},
    ),
}


def without_idle_steps(node):
    """Leave out steps of probability 0, and the jitter's backend."""
    if isinstance(node, tuple):
        idle = [isinstance(x, dict) and x.get('prob') == 0 for x in node]
        pairs = zip(node, idle, strict=True)
        return tuple(without_idle_steps(x) for x, skip in pairs if not skip)
    if not isinstance(node, dict):
        return node
    dropped = {'backend'} if node.get('type') == 'ColorJitter' else set()
    return {
        k: without_idle_steps(v) for k, v in node.items() if k not in dropped
    }


@pytest.mark.parametrize('name', BASELINES)
def test_model_and_augmentation_of_baselines(name):
    file, table = BASELINES[name]
    ours, theirs = recipes.load(f'pretrain/{name}'), stock('mmpretrain', file)
    # MMEngine joins it to the model when it builds that.
    theirs.model.data_preprocessor = theirs.data_preprocessor
    ours, theirs = (
        dict(
            model=plain(cfg.model),
            pipeline=without_idle_steps(
                plain(cfg.train_dataloader.dataset.pipeline)
            ),
        )
        for cfg in (ours, theirs)
    )
    assert differences(ours, theirs) == table


VARIANTS = {
    'pixcon-sim': {'model.head.reweight': None},
    'pixcon-coord': {
        'model.head.matching': 'coordinate',
        'model.head.reweight': None,
    },
    'mocov2plus': {'model.loss_lambda': 0},
}
# What a pre-training changes in the recipe of PixCon-SR, of which test_docs.py
# compares the main one with docs/method.md. Model and views of the baselines
# are compared above.
CHANGES = {
    f'{name}_{size}': changes
    for size in ('r50_coco', 'r18-w32_small')
    for name, changes in VARIANTS.items()
} | {
    'pixcon_r50_coco-plus': {
        'train_dataloader.dataset.data_root': (
            'data/coco/train2017',
            'data/coco/unlabeled2017',
        )
    },
    'pixcon_r50_1gpu_coco': {
        'train_dataloader.batch_size': 128,
        'optim_wrapper.accumulative_counts': 4,
    },
    'densecl_r50_coco': {'optim_wrapper.optimizer.lr': 0.3},
    # In full precision.
    'byol_r50_coco': {
        'optim_wrapper': dict(
            type='OptimWrapper',
            optimizer=dict(
                type='SGD', lr=0.4, momentum=0.9, weight_decay=1e-4
            ),
        )
    },
}


@pytest.mark.parametrize('name', CHANGES)
def test_a_pretraining_changes_only_what_it_says(name):
    size = 'r18-w32_small' if name.endswith('small') else 'r50_coco'
    ours, main = (
        recipes.load(f'pretrain/{recipe}')
        for recipe in (name, f'pixcon_{size}')
    )
    parts = {*ours, *main} - {'data_root'}
    if name in BASELINES:
        parts = {*PARTS, 'randomness'} - {'model'}
        for cfg in (ours, main):
            del cfg.train_dataloader.dataset.pipeline
    ours, main = (
        plain({part: cfg.get(part) for part in parts}) for cfg in (ours, main)
    )
    assert differences(ours, main) == CHANGES[name]


def test_the_upernet_of_the_vit_is_mmsegmentations():
    ours = recipes.load('segmentation/upernet_vit-s_80k_ade20k')
    theirs = stock(
        'mmseg', 'vit/vit_deit-s16_mln_upernet_8xb2-160k_ade20k-512x512.py'
    )
    assert ours.model.backbone.out_indices == theirs.model.backbone.out_indices
    for cfg in ours, theirs:
        del cfg.model.backbone
    assert differences(plain(ours.model), plain(theirs.model)) == {}
    ours, theirs = ours.optim_wrapper, theirs.optim_wrapper
    del theirs.optimizer.betas  # PyTorch's defaults
    assert ours.optimizer == theirs.optimizer
    keys = {*theirs.paramwise_cfg.custom_keys} - {'norm'} | {'ln1', 'ln2'}
    assert {*ours.paramwise_cfg.custom_keys} == keys
    assert 'norm_decay_mult' not in ours.paramwise_cfg


def test_the_upernet_is_mmsegmentations():
    ours = recipes.load('segmentation/upernet_convnext-t_80k_ade20k')
    theirs = stock(
        'mmseg',
        'convnext/convnext-tiny_upernet_8xb2-amp-160k_ade20k-512x512.py',
    )
    assert differences(plain(ours.model), plain(theirs.model)) == {
        'backbone.layer_scale_init_value': None,  # the pre-training fills it
        'test_cfg.mode': 'whole',
        'test_cfg.crop_size': None,
        'test_cfg.stride': None,
    }


@pytest.mark.parametrize(
    'name',
    [
        'detection/mask-rcnn_{}-fpn_1x_coco',
        'segmentation/fcn_{}-d8_80k_ade20k',
    ],
)
def test_resnet18_changes_depth_and_widths_alone(name):
    small, main = (
        plain(recipes.load(name.format(size)).to_dict())
        for size in ('r18', 'r50')
    )
    changed = {*differences(small, main)}
    assert 'model.backbone.depth' in changed
    widths = re.compile(r'model\.(neck|\w+_head)\.(in_)?channels')
    assert all(map(widths.fullmatch, changed - {'model.backbone.depth'}))


def test_the_fcn_with_resnet18_has_mmsegmentations_widths():
    ours = recipes.load('segmentation/fcn_r18-d8_80k_ade20k').model
    theirs = stock('mmseg', 'fcn/fcn_r18-d8_4xb2-80k_cityscapes-512x1024.py')
    for head in ('decode_head', 'auxiliary_head'):
        for key in ('in_channels', 'in_index', 'channels', 'num_convs'):
            assert ours[head][key] == theirs.model[head][key]


def test_every_config_has_a_table():
    for task, table in (
        ('detection', DETECTION),
        ('segmentation', SEGMENTATION),
    ):
        names = {Path(name).name for name in recipes.list_recipes(task)}
        others = {
            n
            for n in names
            if re.search(
                '_custom|_demo|_48e|_voc-small|_convnext|_vit|_r18', n
            )
        }
        assert names - others == {*table}
