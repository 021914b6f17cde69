"""Parts of an R-CNN with a pyramid on the backbone of the small recipes.

Source: this project. The backbone has the stride of 32 that the pyramid
needs, with the same weights.
"""

_base_ = './resnet18_w32.py'
small_channels = 64
small_norm = dict(type='BN', requires_grad=True)
small_rcnn = dict(
    backbone=dict(
        _base_.small_backbone, strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1)
    ),
    neck=dict(
        in_channels=[32, 64, 128, 256],
        out_channels=small_channels,
        norm_cfg=small_norm,
    ),
    rpn_head=dict(in_channels=small_channels, feat_channels=small_channels),
    train_cfg=dict(
        rpn_proposal=dict(max_per_img=200), rcnn=dict(sampler=dict(num=64))
    ),
)
small_extractor = dict(out_channels=small_channels)
small_head = dict(
    in_channels=small_channels,
    conv_out_channels=small_channels,
    norm_cfg=small_norm,
)
