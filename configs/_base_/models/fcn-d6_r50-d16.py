"""FCN of two dilated convolutions, ResNet-50 of output stride 16.

Source: the release (docs/method.md, section 10.2).
"""

_base_ = './segmentor_r50.py'
model = dict(
    backbone=dict(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2)),
    decode_head=dict(
        channels=256,
        dilation=6,
        concat_input=False,
        dropout_ratio=0.0,
        align_corners=True,
    ),
)
