# Mask R-CNN R50-FPN, COCO, 180k iterations (2x).
# Source: coco_R_50_FPN_2x_moco of the release (docs/method.md, section 10.1).
# 8 GPUs x 2 = 16 images. Expected result: not measured here yet.
# Known differences: MMDetection's code in place of detectron2's.
_base_ = './mask-rcnn_r50-fpn_1x_coco.py'
param_scheduler = [
    _base_.param_scheduler[0],
    dict(_base_.param_scheduler[1], milestones=[120000, 160000]),
]
train_cfg = dict(max_iters=180000, val_interval=180000)
