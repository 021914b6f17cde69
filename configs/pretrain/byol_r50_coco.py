# BYOL baseline, ResNet-50, COCO train2017, 800 epochs.
# Source: model and augmentation of MMPretrain's
# byol_resnet50_16xb256-coslr-200e_in1k, with independent crops; optimiser,
# schedule and precision of the release, whose own config does not load
# (docs/differences.md, Baselines). No bias in the last layer of projector and
# predictor, as in both.
# 8 GPUs x 64 = 512 images. Expected result: not measured here yet.
_base_ = [
    '../_base_/datasets/coco_byol_views.py',
    '../_base_/schedules/sgd_cosine_800e.py',
    '../_base_/pretrain_runtime.py',
]
norm_cfg = dict(type='SyncBN')
mlp = dict(
    type='NonLinearNeck',
    hid_channels=4096,
    out_channels=256,
    num_layers=2,
    with_bias=True,
    with_last_bn=False,
    norm_cfg=norm_cfg,
)
model = dict(
    type='BYOL',
    # MMEngine's convention, 1 - m: the target's m goes from 0.99 to 1.
    base_momentum=0.01,
    data_preprocessor=dict(
        type='SelfSupDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
    ),
    backbone=dict(
        type='ResNet', depth=50, norm_cfg=norm_cfg, zero_init_residual=False
    ),
    neck=dict(mlp, in_channels=2048, with_avg_pool=True),
    head=dict(
        type='LatentPredictHead',
        predictor=dict(mlp, in_channels=256, with_avg_pool=False),
        loss=dict(type='CosineSimilarityLoss'),
    ),
)
# The release trains BYOL in full precision.
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(type='SGD', lr=0.4, momentum=0.9, weight_decay=1e-4),
)
