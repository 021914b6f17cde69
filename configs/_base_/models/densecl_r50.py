"""DenseCL with ResNet-50, as MMPretrain's densecl_resnet50_8xb32 has it."""

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
