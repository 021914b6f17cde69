# FCN R50-d8, Cityscapes (19 classes), crops of 512 x 1024, 40k iterations.
# Source: MMSegmentation's fcn_r50-d8_4xb2-40k_cityscapes-512x1024 with a plain
# ResNet. The release does not have it; many published numbers are of this one.
# 4 GPUs x 2 = 8 images. Expected result: not measured here yet.
_base_ = './fcn_r50-d8_40k_cityscapes.py'
crop_size = (512, 1024)
model = dict(
    data_preprocessor=dict(size=crop_size),
    decode_head=dict(align_corners=False),
    auxiliary_head=dict(align_corners=False),
    test_cfg=dict(_delete_=True, mode='whole'),
)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(
        type='RandomResize',
        scale=(2048, 1024),
        ratio_range=(0.5, 2.0),
        keep_ratio=True,
    ),
    dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75),
    dict(type='RandomFlip', prob=0.5),
    dict(type='PhotoMetricDistortion'),
    dict(type='PackSegInputs'),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=(2048, 1024), keep_ratio=True),
    dict(type='LoadAnnotations'),
    dict(type='PackSegInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader
