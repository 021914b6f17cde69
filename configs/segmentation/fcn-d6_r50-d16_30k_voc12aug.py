# FCN-d6 R50-d16, Pascal VOC 2012 with the augmented set, 30k iterations.
# Source: fcn_d6_r50-d16_513x513_30k_voc12aug_moco of the release
# (docs/method.md, section 10.2), with its normalisation corrected.
# 4 GPUs x 4 = 16 images. Expected result: not measured here yet.
_base_ = [
    '../_base_/models/fcn-d6_r50-d16.py',
    '../_base_/datasets/voc12aug.py',
    '../_base_/schedules/segmentation_step_30k.py',
    '../_base_/segmentation_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    decode_head=dict(num_classes=len(_base_.classes)),
)
