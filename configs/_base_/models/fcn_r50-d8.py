"""FCN, ResNet-50 of output stride 8, auxiliary head.

Source: MMSegmentation's fcn_r50-d8 with ``ResNet`` in place of ``ResNetV1c``
(docs/method.md, section 10.2).
"""

_base_ = './segmentor_r50.py'
model = dict(
    backbone=dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4)),
    decode_head=dict(
        channels=512,
        concat_input=True,
        dropout_ratio=0.1,
        align_corners=False,
    ),
    auxiliary_head=dict(
        type='FCNHead',
        in_channels=1024,
        in_index=2,
        channels=256,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        norm_cfg=_base_.norm_cfg,
        align_corners=False,
        loss_decode=dict(
            type='CrossEntropyLoss', use_sigmoid=False, loss_weight=0.4
        ),
    ),
)
