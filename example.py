auto_scale_lr = dict(base_batch_size=16, enable=False)
crop_size = (
    32,
    32,
)
custom_imports = dict(
    allow_failed_imports=False,
    imports=[
        'pixcon_mm',
    ],
)
data_root = '/tmp/pytest-of-root/pytest-84/segmentor0/data/'
default_hooks = dict(
    checkpoint=dict(
        by_epoch=False,
        interval=5000,
        max_keep_ckpts=2,
        type='WholeCheckpointHook',
    ),
    logger=dict(interval=1, log_metric_by_epoch=False, type='LoggerHook'),
    param_scheduler=dict(type='ParamSchedulerHook'),
    pretrained=dict(source='none', type='PretrainedHook'),
    progress_bar=dict(type='ProgressBarHook'),
    reproducible_resume=dict(type='ReproducibleResumeHook'),
    runtime_info=dict(type='DeferredRuntimeInfoHook'),
    sampler_seed=dict(type='DistSamplerSeedHook'),
    timer=dict(type='IterTimerHook'),
)
default_scope = 'mmseg'
distort = dict(type='PhotoMetricDistortion')
env_cfg = dict(
    cudnn_benchmark=True,
    dist_cfg=dict(backend='nccl'),
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
)
experiment_name = 'segmentor0'
flip = dict(prob=0.5, type='RandomFlip')
load = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
]
load_from = None
log_processor = dict(by_epoch=False, type='ReadableLogProcessor')
model = dict(
    auxiliary_head=dict(
        align_corners=False,
        channels=16,
        concat_input=False,
        dropout_ratio=0.1,
        in_channels=32,
        in_index=2,
        loss_decode=dict(
            loss_weight=0.4, type='CrossEntropyLoss', use_sigmoid=False
        ),
        norm_cfg=dict(requires_grad=True, type='SyncBN'),
        num_classes=150,
        num_convs=1,
        type='FCNHead',
    ),
    backbone=dict(
        base_channels=8,
        contract_dilation=True,
        depth=18,
        dilations=(
            1,
            1,
            2,
            4,
        ),
        frozen_stages=-1,
        norm_cfg=dict(requires_grad=True, type='SyncBN'),
        norm_eval=False,
        out_indices=(
            0,
            1,
            2,
            3,
        ),
        stem_channels=8,
        strides=(
            1,
            2,
            1,
            1,
        ),
        style='pytorch',
        type='ResNet',
        zero_init_residual=False,
    ),
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
            32,
            32,
        ),
        std=[
            58.395,
            57.12,
            57.375,
        ],
        type='SegDataPreProcessor',
    ),
    decode_head=dict(
        align_corners=False,
        channels=16,
        concat_input=True,
        dropout_ratio=0.1,
        in_channels=64,
        in_index=3,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False),
        norm_cfg=dict(requires_grad=True, type='SyncBN'),
        num_classes=150,
        num_convs=2,
        type='FCNHead',
    ),
    test_cfg=dict(mode='whole'),
    train_cfg=dict(),
    type='EncoderDecoder',
)
norm_cfg = dict(requires_grad=True, type='SyncBN')
optim_wrapper = dict(
    optimizer=dict(lr=0.01, momentum=0.9, type='SGD', weight_decay=0.0005),
    type='OptimWrapper',
)
pack = dict(type='PackSegInputs')
param_scheduler = [
    dict(by_epoch=False, end=80000, eta_min=0.0001, power=0.9, type='PolyLR'),
]
random_crop = dict(
    cat_max_ratio=0.75,
    crop_size=(
        512,
        512,
    ),
    type='RandomCrop',
)
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
    type='RandomResize',
)
randomness = dict(seed=0)
resume = False
scale = (
    2048,
    512,
)
test_cfg = dict(type='TestLoop')
test_dataloader = dict(
    batch_size=1,
    dataset=dict(
        data_prefix=dict(
            img_path='images/validation', seg_map_path='annotations/validation'
        ),
        data_root='/tmp/pytest-of-root/pytest-84/segmentor0/data/',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(
                keep_ratio=True,
                scale=(
                    2048,
                    512,
                ),
                type='Resize',
            ),
            dict(type='LoadAnnotations'),
            dict(type='PackSegInputs'),
        ],
        type='ADE20KDataset',
    ),
    num_workers=0,
    persistent_workers=False,
    sampler=dict(shuffle=False, type='DefaultSampler'),
)
test_evaluator = dict(
    iou_metrics=[
        'mIoU',
    ],
    type='IoUMetric',
)
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(
        keep_ratio=True,
        scale=(
            2048,
            512,
        ),
        type='Resize',
    ),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_cfg = dict(max_iters=2, type='IterBasedTrainLoop', val_interval=2)
train_dataloader = dict(
    batch_size=2,
    dataset=dict(
        data_prefix=dict(
            img_path='images/training', seg_map_path='annotations/training'
        ),
        data_root='/tmp/pytest-of-root/pytest-84/segmentor0/data/',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations'),
            dict(
                keep_ratio=True,
                ratio_range=(
                    0.5,
                    2.0,
                ),
                scale=(
                    96,
                    64,
                ),
                type='RandomResize',
            ),
            dict(
                cat_max_ratio=0.75,
                crop_size=(
                    32,
                    32,
                ),
                type='RandomCrop',
            ),
            dict(prob=0.5, type='RandomFlip'),
            dict(type='PhotoMetricDistortion'),
            dict(type='PackSegInputs'),
        ],
        type='ADE20KDataset',
    ),
    num_workers=0,
    persistent_workers=False,
    sampler=dict(shuffle=True, type='InfiniteSampler'),
)
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
        type='RandomResize',
    ),
    dict(
        cat_max_ratio=0.75,
        crop_size=(
            512,
            512,
        ),
        type='RandomCrop',
    ),
    dict(prob=0.5, type='RandomFlip'),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
val_cfg = dict(type='ValLoop')
val_dataloader = dict(
    batch_size=1,
    dataset=dict(
        data_prefix=dict(
            img_path='images/validation', seg_map_path='annotations/validation'
        ),
        data_root='/tmp/pytest-of-root/pytest-84/segmentor0/data/',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(
                keep_ratio=True,
                scale=(
                    96,
                    64,
                ),
                type='Resize',
            ),
            dict(type='LoadAnnotations'),
            dict(type='PackSegInputs'),
        ],
        type='ADE20KDataset',
    ),
    num_workers=0,
    persistent_workers=False,
    sampler=dict(shuffle=False, type='DefaultSampler'),
)
val_evaluator = dict(
    iou_metrics=[
        'mIoU',
    ],
    type='IoUMetric',
)
visualizer = dict(
    alpha=0.5,
    name='visualizer',
    type='SegLocalVisualizer',
    vis_backends=[
        dict(type='LocalVisBackend'),
        dict(type='TensorboardVisBackend'),
    ],
)
work_dir = '/tmp/pytest-of-root/pytest-84/segmentor0/work'
