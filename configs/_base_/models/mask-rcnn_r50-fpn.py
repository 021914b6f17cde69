"""Mask R-CNN, ResNet-50, FPN; a box head of four convolutions and one linear.

SyncBN in backbone, FPN and heads (docs/method.md, section 10.1; detectron2's
Base-RCNN-FPN otherwise).
"""

_base_ = './rcnn_r50.py'
model = dict(
    type='MaskRCNN',
    data_preprocessor=dict(pad_mask=True, pad_size_divisor=32),
    backbone=dict(out_indices=(0, 1, 2, 3)),
    neck=dict(
        type='FPN',
        in_channels=[256, 512, 1024, 2048],
        out_channels=256,
        num_outs=5,
        norm_cfg=_base_.norm_cfg,
    ),
    rpn_head=dict(
        in_channels=256,
        feat_channels=256,
        anchor_generator=dict(scales=[8], strides=[4, 8, 16, 32, 64]),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(
            roi_layer=dict(output_size=7),
            out_channels=256,
            featmap_strides=[4, 8, 16, 32],
        ),
        bbox_head=dict(
            type='Shared4Conv1FCBBoxHead',
            in_channels=256,
            conv_out_channels=256,
            fc_out_channels=1024,
            norm_cfg=_base_.norm_cfg,
        ),
        mask_roi_extractor=dict(
            type='SingleRoIExtractor',
            roi_layer=dict(type='RoIAlign', output_size=14, sampling_ratio=0),
            out_channels=256,
            featmap_strides=[4, 8, 16, 32],
        ),
        mask_head=dict(
            type='FCNMaskHead',
            num_convs=4,
            in_channels=256,
            conv_out_channels=256,
            norm_cfg=_base_.norm_cfg,
            loss_mask=dict(type='CrossEntropyLoss', use_mask=True),
        ),
    ),
    train_cfg=dict(
        rpn_proposal=dict(nms_pre=2000, max_per_img=1000),
        rcnn=dict(mask_size=28),
    ),
    test_cfg=dict(rpn=dict(nms_pre=1000), rcnn=dict(mask_thr_binary=0.5)),
)
