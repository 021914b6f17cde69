# Mask R-CNN R50-FPN, COCO, 90k iterations (1x).
# Source: coco_R_50_FPN_1x_moco of the release (docs/method.md, section 10.1).
# 8 GPUs x 2 = 16 images. Expected result: not measured here yet.
# Known differences: MMDetection's code in place of detectron2's.
_base_ = [
    '../_base_/models/mask-rcnn_r50-fpn.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/detection_1x.py',
    '../_base_/detection_runtime.py',
]
model = dict(
    roi_head=dict(
        bbox_head=dict(num_classes=len(_base_.classes)),
        mask_head=dict(num_classes=len(_base_.classes)),
    )
)
