# Faster R-CNN R50-C4, Pascal VOC 07+12 trainval -> 07 test, 24k iterations.
# Source: pascal_voc_R_50_C4_24k_moco (docs/method.md, section 10.1).
# 8 GPUs x 2 = 16 images. Expected result: not measured here yet.
# Known differences: MMDetection's code in place of detectron2's; objects
# marked difficult count as background here, while detectron2 trains on them.
_base_ = [
    '../_base_/models/faster-rcnn_r50-c4.py',
    '../_base_/datasets/voc0712.py',
    '../_base_/schedules/detection_1x.py',
    '../_base_/detection_runtime.py',
]
# MMPretrain's module has the shared head with the extra norm.
custom_imports = dict(
    imports=['pixcon_mm', 'mmpretrain.models.utils.res_layer_extra_norm'],
    allow_failed_imports=False,
)
model = dict(roi_head=dict(bbox_head=dict(num_classes=len(_base_.classes))))
param_scheduler = [
    dict(_base_.param_scheduler[0], end=100),
    dict(_base_.param_scheduler[1], milestones=[18000, 22000]),
]
train_cfg = dict(max_iters=24000, val_interval=24000)
