"""Faster R-CNN, ResNet-50, C4.

The last stage is the head that all regions share, with an extra SyncBN after
it (docs/method.md, section 10.1; detectron2's Base-RCNN-C4).
"""

_base_ = './rcnn_r50.py'
model = dict(
    type='FasterRCNN',
    data_preprocessor=dict(pad_size_divisor=1),
    backbone=dict(
        num_stages=3,
        strides=(1, 2, 2),
        dilations=(1, 1, 1),
        out_indices=(2,),
    ),
    rpn_head=dict(
        in_channels=1024,
        feat_channels=1024,
        anchor_generator=dict(scales=[2, 4, 8, 16, 32], strides=[16]),
    ),
    roi_head=dict(
        shared_head=dict(
            type='ResLayerExtraNorm',
            depth=50,
            stage=3,
            stride=2,
            dilation=1,
            style='pytorch',
            norm_cfg=_base_.norm_cfg,
            norm_eval=False,
        ),
        bbox_roi_extractor=dict(
            roi_layer=dict(output_size=14),
            out_channels=1024,
            featmap_strides=[16],
        ),
        bbox_head=dict(type='BBoxHead', with_avg_pool=True, in_channels=2048),
    ),
    train_cfg=dict(rpn_proposal=dict(nms_pre=12000, max_per_img=2000)),
    test_cfg=dict(rpn=dict(nms_pre=6000)),
)
