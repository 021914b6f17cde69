# FCN R50-d8, ADE20K (150 classes), 80k iterations.
# Source: MMSegmentation's fcn_r50-d8_4xb4-80k_ade20k-512x512, which the
# release also has (docs/method.md, section 10.2), with a plain ResNet.
# 4 GPUs x 4 = 16 images. Expected result: not measured here yet.
_base_ = [
    '../_base_/models/fcn_r50-d8.py',
    '../_base_/datasets/ade20k.py',
    '../_base_/schedules/segmentation_poly_40k.py',
    '../_base_/segmentation_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    decode_head=dict(num_classes=len(_base_.classes)),
    auxiliary_head=dict(num_classes=len(_base_.classes)),
)
param_scheduler = [dict(_base_.param_scheduler[0], end=80000)]
train_cfg = dict(max_iters=80000, val_interval=8000)
