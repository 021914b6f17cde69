auto_scale_lr = dict(base_batch_size=16, enable=False)
crop_size = (
    128,
    128,
)
custom_imports = dict(
    allow_failed_imports=False, imports=[
        'pixcon_mm',
    ])
data_root = 'data/demo/'
default_hooks = dict(
    checkpoint=dict(
        by_epoch=False,
        interval=120,
        max_keep_ckpts=2,
        type='WholeCheckpointHook'),
    logger=dict(interval=20, log_metric_by_epoch=False, type='LoggerHook'),
    param_scheduler=dict(type='ParamSchedulerHook'),
    pretrained=dict(type='PretrainedHook'),
    progress_bar=dict(type='ProgressBarHook'),
    reproducible_resume=dict(type='ReproducibleResumeHook'),
    runtime_info=dict(type='DeferredRuntimeInfoHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    timer=dict(type='IterTimerHook'))
default_scope = 'mmseg'
distort = dict(type='PhotoMetricDistortion')
env_cfg = dict(
    cudnn_benchmark=True,
    dist_cfg=dict(backend='nccl'),
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0))
flip = dict(prob=0.5, type='RandomFlip')
load = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
]
load_from = None
log_processor = dict(by_epoch=False, type='ReadableLogProcessor')
metainfo = dict(
    classes=(
        'ground',
        'person',
        'cat',
        'cup',
        'motorcycle',
        'coin',
        'retina',
        'logo',
    ),
    palette=[
        [
            0,
            0,
            0,
        ],
        [
            220,
            20,
            60,
        ],
        [
            255,
            165,
            0,
        ],
        [
            60,
            180,
            75,
        ],
        [
            0,
            130,
            200,
        ],
        [
            255,
            225,
            25,
        ],
        [
            145,
            30,
            180,
        ],
        [
            70,
            240,
            240,
        ],
    ])
model = dict(
    backbone=dict(
        contract_dilation=True,
        depth=18,
        dilations=(
            1,
            1,
            1,
            2,
        ),
        frozen_stages=-1,
        norm_cfg=dict(requires_grad=True, type='BN'),
        norm_eval=False,
        out_indices=(
            0,
            1,
            2,
            3,
        ),
        strides=(
            1,
            2,
            2,
            1,
        ),
        style='pytorch',
        type='ResNet',
        zero_init_residual=False),
    data_preprocessor=dict(
        bgr_to_rgb=True,
        mean=[
            123.675,
            116.28,
            103.53,
        ],
        pad_val=0,
        seg_pad_val=255,
        size=(
            128,
            128,
        ),
        std=[
            58.395,
            57.12,
            57.375,
        ],
        type='SegDataPreProcessor'),
    decode_head=dict(
        align_corners=True,
        channels=128,
        concat_input=False,
        dilation=6,
        dropout_ratio=0.0,
        in_channels=512,
        in_index=3,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False),
        norm_cfg=dict(requires_grad=True, type='BN'),
        num_classes=8,
        num_convs=2,
        type='FCNHead'),
    test_cfg=dict(mode='whole'),
    train_cfg=dict(),
    type='EncoderDecoder')
norm_cfg = dict(requires_grad=True, type='BN')
optim_wrapper = dict(
    optimizer=dict(lr=0.05, momentum=0.9, type='SGD', weight_decay=0.0001),
    type='OptimWrapper')
pack = dict(type='PackSegInputs')
param_scheduler = [
    dict(by_epoch=False, end=120, eta_min=0.0001, power=0.9, type='PolyLR'),
]
random_crop = dict(
    cat_max_ratio=0.75, crop_size=(
        512,
        512,
    ), type='RandomCrop')
random_resize = dict(
    keep_ratio=True,
    ratio_range=(
        0.5,
        2.0,
    ),
    scale=(
        2048,
        512,
    ),
    type='RandomResize')
randomness = dict(seed=0)
resume = False
scale = (
    240,
    180,
)
test_cfg = dict(type='TestLoop')
test_dataloader = dict(
    batch_size=1,
    dataset=dict(
        data_prefix=dict(img_path='val2017', seg_map_path='semantic/val2017'),
        data_root='data/demo/',
        metainfo=dict(
            classes=(
                'ground',
                'person',
                'cat',
                'cup',
                'motorcycle',
                'coin',
                'retina',
                'logo',
            ),
            palette=[
                [
                    0,
                    0,
                    0,
                ],
                [
                    220,
                    20,
                    60,
                ],
                [
                    255,
                    165,
                    0,
                ],
                [
                    60,
                    180,
                    75,
                ],
                [
                    0,
                    130,
                    200,
                ],
                [
                    255,
                    225,
                    25,
                ],
                [
                    145,
                    30,
                    180,
                ],
                [
                    70,
                    240,
                    240,
                ],
            ]),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(keep_ratio=True, scale=(
                240,
                180,
            ), type='Resize'),
            dict(type='LoadAnnotations'),
            dict(type='PackSegInputs'),
        ],
        type='BaseSegDataset'),
    num_workers=1,
    persistent_workers=True,
    sampler=dict(shuffle=False, type='DefaultSampler'))
test_evaluator = dict(
    iou_metrics=[
        'mIoU',
    ], type='IoUMetric')
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(keep_ratio=True, scale=(
        240,
        180,
    ), type='Resize'),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_cfg = dict(max_iters=120, type='IterBasedTrainLoop', val_interval=120)
train_dataloader = dict(
    batch_size=16,
    dataset=dict(
        data_prefix=dict(
            img_path='train2017', seg_map_path='semantic/train2017'),
        data_root='data/demo/',
        metainfo=dict(
            classes=(
                'ground',
                'person',
                'cat',
                'cup',
                'motorcycle',
                'coin',
                'retina',
                'logo',
            ),
            palette=[
                [
                    0,
                    0,
                    0,
                ],
                [
                    220,
                    20,
                    60,
                ],
                [
                    255,
                    165,
                    0,
                ],
                [
                    60,
                    180,
                    75,
                ],
                [
                    0,
                    130,
                    200,
                ],
                [
                    255,
                    225,
                    25,
                ],
                [
                    145,
                    30,
                    180,
                ],
                [
                    70,
                    240,
                    240,
                ],
            ]),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations'),
            dict(
                keep_ratio=True,
                ratio_range=(
                    0.75,
                    1.33,
                ),
                scale=(
                    240,
                    180,
                ),
                type='RandomResize'),
            dict(crop_size=(
                128,
                128,
            ), type='RandomCrop'),
            dict(prob=0.5, type='RandomFlip'),
            dict(type='PackSegInputs'),
        ],
        type='BaseSegDataset'),
    num_workers=1,
    persistent_workers=True,
    sampler=dict(shuffle=True, type='InfiniteSampler'))
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(
        keep_ratio=True,
        ratio_range=(
            0.5,
            2.0,
        ),
        scale=(
            2048,
            512,
        ),
        type='RandomResize'),
    dict(cat_max_ratio=0.75, crop_size=(
        512,
        512,
    ), type='RandomCrop'),
    dict(prob=0.5, type='RandomFlip'),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
val_cfg = dict(type='ValLoop')
val_dataloader = dict(
    batch_size=1,
    dataset=dict(
        data_prefix=dict(img_path='val2017', seg_map_path='semantic/val2017'),
        data_root='data/demo/',
        metainfo=dict(
            classes=(
                'ground',
                'person',
                'cat',
                'cup',
                'motorcycle',
                'coin',
                'retina',
                'logo',
            ),
            palette=[
                [
                    0,
                    0,
                    0,
                ],
                [
                    220,
                    20,
                    60,
                ],
                [
                    255,
                    165,
                    0,
                ],
                [
                    60,
                    180,
                    75,
                ],
                [
                    0,
                    130,
                    200,
                ],
                [
                    255,
                    225,
                    25,
                ],
                [
                    145,
                    30,
                    180,
                ],
                [
                    70,
                    240,
                    240,
                ],
            ]),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(keep_ratio=True, scale=(
                240,
                180,
            ), type='Resize'),
            dict(type='LoadAnnotations'),
            dict(type='PackSegInputs'),
        ],
        type='BaseSegDataset'),
    num_workers=1,
    persistent_workers=True,
    sampler=dict(shuffle=False, type='DefaultSampler'))
val_evaluator = dict(
    iou_metrics=[
        'mIoU',
    ], type='IoUMetric')
visualizer = dict(
    alpha=0.5,
    name='visualizer',
    type='SegLocalVisualizer',
    vis_backends=[
        dict(type='LocalVisBackend'),
        dict(type='TensorboardVisBackend'),
    ])
