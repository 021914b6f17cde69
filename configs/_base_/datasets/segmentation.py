"""Loaders of segmentation data, 4 images per GPU, in crops of 512 x 512.

The pipelines are those of MMSegmentation's ade20k.py; data sets of other
sizes put theirs together from the same steps.
"""

scale, crop_size = (2048, 512), (512, 512)
load = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
random_resize = dict(
    type='RandomResize', scale=scale, ratio_range=(0.5, 2.0), keep_ratio=True
)
random_crop = dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75)
flip = dict(type='RandomFlip', prob=0.5)
distort = dict(type='PhotoMetricDistortion')
pack = dict(type='PackSegInputs')
train_pipeline = [*load, random_resize, random_crop, flip, distort, pack]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    # Loaded after the resizing, so that the masks keep their size.
    dict(type='LoadAnnotations'),
    pack,
]
train_dataloader = dict(
    batch_size=4,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(pipeline=train_pipeline),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    persistent_workers=True,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(pipeline=test_pipeline),
)
test_dataloader = val_dataloader
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_evaluator = val_evaluator
