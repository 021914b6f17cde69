# FCN-d6 R50-d16, Cityscapes (19 classes), 90k iterations.
# Source: fcn_d6_r50-d16_769x769_90k_cityscapes_moco of the release
# (docs/method.md, section 10.2), with its normalisation corrected.
# 4 GPUs x 4 = 16 images. Expected result: not measured here yet.
_base_ = [
    '../_base_/models/fcn-d6_r50-d16.py',
    '../_base_/datasets/cityscapes.py',
    '../_base_/schedules/segmentation_step_30k.py',
    '../_base_/segmentation_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    decode_head=dict(num_classes=len(_base_.classes)),
    test_cfg=dict(mode='slide', crop_size=_base_.crop_size, stride=(513, 513)),
)
train_pipeline = [
    *_base_.load,
    dict(_base_.random_resize, scale=_base_.scale),
    dict(type='RandomCrop', crop_size=_base_.crop_size),
    _base_.flip,
    _base_.pack,
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(optimizer=dict(lr=0.01))
param_scheduler = [dict(_base_.param_scheduler[0], milestones=[63000, 81000])]
train_cfg = dict(max_iters=90000, val_interval=45000)
