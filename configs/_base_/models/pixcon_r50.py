"""PixCon-SR with ResNet-50 (docs/method.md, sections 1 to 8)."""

norm_cfg = dict(type='SyncBN')
model = dict(
    type='PixCon',
    queue_len=65536,
    loss_lambda=0.5,
    # MMEngine's convention, 1 - m: the paper's m goes from 0.99 to 1.
    base_momentum=0.01,
    end_momentum=0.0,
    # The layout that tensor cores and oneDNN read without transposing first.
    channels_last=True,
    # On an H100, backbone passes took 0.82 of the time (docs/speed.md). Slower
    # on a CPU. The first step takes about two minutes.
    compile_backbone=False,
    data_preprocessor=dict(
        type='TwoViewDataPreprocessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        non_blocking=True,
        # With CUDA; takes about ten seconds at the first step.
        compile_colors=True,
    ),
    backbone=dict(
        type='ResNet', depth=50, norm_cfg=norm_cfg, zero_init_residual=False
    ),
    neck=dict(
        type='PixConNeck',
        in_channels=2048,
        hid_channels=2048,
        out_channels=128,
        norm_cfg=norm_cfg,
    ),
    head=dict(
        type='PixConHead',
        channels=128,
        hid_channels=2048,
        norm_cfg=norm_cfg,
        matching='similarity',
        reweight=dict(power=2, use_mask=True),
        loss=dict(type='QueueInfoNCELoss', temperature=0.2, backend='auto'),
    ),
)
