# Mask R-CNN R50-FPN, COCO, 180k iterations (2x).
# Source: coco_R_50_FPN_2x_moco of the release (reference file, section 4.2).
# 8 GPUs x 2 = 16 images. Expected result: not measured here yet.
# Known differences: MMDetection's code in place of detectron2's.
_base_ = './mask-rcnn_r50-fpn_1x_coco.py'
param_scheduler = [
    dict(type='WarmupLR', start_factor=1e-3, by_epoch=False, end=1000),
    dict(
        type='MultiStepLR',
        by_epoch=False,
        milestones=[120000, 160000],
        gamma=0.1,
    ),
]
train_cfg = dict(max_iters=180000, val_interval=180000)
