# FCN R50-d8, Cityscapes (19 classes), crops of 512 x 1024, 40k iterations.
# Source: MMSegmentation's fcn_r50-d8_4xb2-40k_cityscapes-512x1024 with a plain
# ResNet. Not in the release; many published numbers are for this config.
# 4 GPUs x 2 = 8 images. Expected result: not measured here yet.
_base_ = './fcn_r50-d8_40k_cityscapes.py'
scale, crop_size = (2048, 1024), (512, 1024)
model = dict(
    data_preprocessor=dict(size=crop_size),
    decode_head=dict(align_corners=False),
    auxiliary_head=dict(align_corners=False),
    test_cfg=dict(_delete_=True, mode='whole'),
)
train_pipeline = [
    *_base_.load,
    dict(_base_.random_resize, scale=scale),
    dict(_base_.random_crop, crop_size=crop_size),
    _base_.flip,
    _base_.distort,
    _base_.pack,
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='LoadAnnotations'),
    _base_.pack,
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
