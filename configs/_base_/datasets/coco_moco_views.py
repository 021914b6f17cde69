"""COCO: pairs of independent crops with MoCo-v2's augmentation."""

_base_ = ['./coco_two_views.py', './cpu_photometrics.py']
view = [
    dict(
        type='RandomResizedCrop',
        scale=224,
        crop_ratio_range=(0.2, 1.0),
        backend='pillow',
    ),
    dict(
        type='RandomApply',
        prob=0.8,
        transforms=[
            dict(
                type='ColorJitter',
                brightness=0.4,
                contrast=0.4,
                saturation=0.4,
                hue=0.1,
                backend='pillow',
            )
        ],
    ),
    _base_.grayscale,
    dict(_base_.blur, prob=0.5),
    dict(type='RandomFlip', prob=0.5),
]
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='LoadSceneImage'),
            dict(type='MultiView', num_views=[2], transforms=[view]),
            dict(type='PackInputs'),
        ]
    )
)
