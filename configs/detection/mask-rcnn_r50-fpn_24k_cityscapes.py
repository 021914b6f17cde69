# Mask R-CNN R50-FPN, Cityscapes instances (8 classes), 24k iterations.
# Source: Cityscapes/mask_rcnn_R_50_FPN_moco of the release (docs/method.md,
# section 10.1). Unlike the COCO recipe, it keeps the heads of detectron2's
# Base-RCNN-FPN: two linear layers for the boxes, four convolutions for the
# masks, no norm in either. Backbone and FPN have SyncBN.
# 8 GPUs x 1 = 8 images. Expected result: not measured here yet.
# Known differences: MMDetection's code in place of detectron2's; COCO's
# metric.
_base_ = [
    '../_base_/models/mask-rcnn_r50-fpn.py',
    '../_base_/datasets/cityscapes_instance.py',
    '../_base_/schedules/detection_1x.py',
    '../_base_/detection_runtime.py',
]
model = dict(
    roi_head=dict(
        bbox_head=dict(
            type='Shared2FCBBoxHead',
            norm_cfg=None,
            num_classes=len(_base_.classes),
        ),
        mask_head=dict(norm_cfg=None, num_classes=len(_base_.classes)),
    )
)
optim_wrapper = dict(optimizer=dict(lr=0.01))
param_scheduler = [
    _base_.param_scheduler[0],
    dict(_base_.param_scheduler[1], milestones=[18000]),
]
train_cfg = dict(max_iters=24000, val_interval=24000)
auto_scale_lr = dict(base_batch_size=8)
