# DenseCL baseline, ResNet-50, COCO train2017, 800 epochs.
# Source: model and augmentation (MoCo-v2's, independent crops) of MMPretrain's
# densecl_resnet50_8xb32-coslr-200e_in1k; optimiser, batch, precision and
# schedule of the release (docs/method.md, section 9), warm-up of 4 epochs
# included, which DenseCL's own COCO recipe (lr 0.3 for 256 images) lacks.
# Saturation 0.4 is DenseCL's and MoCo-v2's; the release states 0.2, in lines
# that have no effect. Lambda is 0.5 from the start, as in all three recipes:
# none uses the hook of DenseCL's code that keeps it at 0 for 1,000 iterations.
# 8 GPUs x 64 = 512 images. Expected result: not measured here yet.
_base_ = [
    '../_base_/datasets/coco_moco_views.py',
    '../_base_/schedules/sgd_cosine_800e.py',
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
