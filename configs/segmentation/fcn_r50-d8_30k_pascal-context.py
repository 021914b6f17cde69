# FCN R50-d8, Pascal Context (60 classes), 30k iterations.
# Source: fcn_r50-d8_4xb4-30k_pascal-context-480x480 of the release:
# MMSegmentation's FCN and data with the schedule of the VOC recipe. The
# normalisation is corrected: the release has constants for 0-1 on 0-255.
# 4 GPUs x 4 = 16 images. Expected result: not measured here yet.
_base_ = [
    '../_base_/models/fcn_r50-d8.py',
    '../_base_/datasets/pascal_context.py',
    '../_base_/schedules/segmentation_step_30k.py',
    '../_base_/segmentation_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    decode_head=dict(num_classes=len(_base_.classes)),
    auxiliary_head=dict(num_classes=len(_base_.classes)),
    test_cfg=dict(mode='slide', crop_size=_base_.crop_size, stride=(320, 320)),
)
