# Mask R-CNN R50-FPN, COCO, 90k iterations (1x).
# Source: coco_R_50_FPN_1x_moco of the release (reference file, section 4.2).
# 8 GPUs x 2 = 16 images. Expected result: not measured here yet.
# Known differences: MMDetection's code in place of detectron2's.
_base_ = [
    '../_base_/mask-rcnn_r50-fpn.py',
    '../_base_/coco_instances.py',
    '../_base_/detection_runtime.py',
]
param_scheduler = [
    dict(type='WarmupLR', start_factor=1e-3, by_epoch=False, end=1000),
    dict(
        type='MultiStepLR',
        by_epoch=False,
        milestones=[60000, 80000],
        gamma=0.1,
    ),
]
train_cfg = dict(
    type='IterBasedTrainLoop', max_iters=90000, val_interval=90000
)
