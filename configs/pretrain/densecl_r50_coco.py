# DenseCL baseline, ResNet-50, COCO train2017, 800 epochs.
# Source: MMPretrain's DenseCL classes; optimiser and batch of reference file,
# section 3.2; MoCo-v2's augmentation with independent crops, which the
# release's config states but does not use; lambda 0 for the first 1,000
# iterations, as DenseCL has it.
# 8 GPUs x 64 = 512 images. Expected result: not measured here yet.
_base_ = [
    '../_base_/two_moco_crops.py',
    '../_base_/sgd_cosine_800e.py',
    '../_base_/pretrain_runtime.py',
]
model = dict(
    type='DenseCL',
    queue_len=65536,
    feat_dim=128,
    # MMEngine's convention, 1 - m: the key encoder's m is 0.999.
    momentum=0.001,
    loss_lambda=0.5,
    data_preprocessor=dict(
        type='SelfSupDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        to_rgb=True,
    ),
    # Plain batch norm: DenseCL shuffles the batch over the GPUs instead.
    backbone=dict(
        type='ResNet',
        depth=50,
        norm_cfg=dict(type='BN'),
        zero_init_residual=False,
    ),
    neck=dict(
        type='DenseCLNeck',
        in_channels=2048,
        hid_channels=2048,
        out_channels=128,
        num_grid=None,
    ),
    head=dict(
        type='ContrastiveHead',
        loss=dict(type='CrossEntropyLoss'),
        temperature=0.2,
    ),
)
optim_wrapper = dict(optimizer=dict(lr=0.3))
param_scheduler = [
    dict(type='CosineAnnealingLR', by_epoch=True, begin=0, end=800, T_max=800)
]
default_hooks = dict(densecl=dict(type='DenseCLHook', start_iters=1000))
