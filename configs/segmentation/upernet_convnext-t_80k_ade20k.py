# UPerNet ConvNeXt-T, ADE20K (150 classes), 80k iterations; untested.
# Source: this project; head, optimiser and drop path are those of
# MMSegmentation's convnext-tiny_upernet_8xb2-amp-160k_ade20k-512x512, without
# its decay of the rate by layer. 4 GPUs x 4 = 16 images.
# Expected result: unknown.
_base_ = './fcn_r50-d8_80k_ade20k.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.ConvNeXt',
        arch='tiny',
        drop_path_rate=0.4,
        out_indices=(0, 1, 2, 3),
        gap_before_final_norm=False,
    ),
    decode_head=dict(
        _delete_=True,
        type='UPerHead',
        in_channels=[96, 192, 384, 768],
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=512,
        dropout_ratio=0.1,
        num_classes=len(_base_.classes),
        norm_cfg=_base_.norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False),
    ),
    auxiliary_head=dict(in_channels=384),
)
# Norms of the maps that pixcon_convnext-t_coco.py does not use.
default_hooks = dict(pretrained=dict(new_layers=['norm0', 'norm1', 'norm2']))
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-4, weight_decay=0.05),
    paramwise_cfg=dict(norm_decay_mult=0.0),
)
param_scheduler = [
    dict(type='WarmupLR', start_factor=1e-6, by_epoch=False, end=1500),
    dict(type='PolyLR', power=1.0, begin=1500, end=80000, by_epoch=False),
]
