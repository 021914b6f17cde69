"""FCN on the backbone of the small recipes.

Source: this project. Stride and dilation are those of the pre-training.
"""

_base_ = ['./fcn-d6_r50-d16.py', './resnet18_w32.py']
model = dict(
    backbone=dict(_base_.small_backbone, contract_dilation=False),
    decode_head=dict(
        in_channels=256,
        channels=128,
        norm_cfg=dict(type='BN', requires_grad=True),
    ),
)
