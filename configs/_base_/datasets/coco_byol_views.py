"""COCO: pairs of independent crops with BYOL's augmentation."""

_base_ = ['./coco_two_views.py', './cpu_photometrics.py']
crop_and_flip = [
    dict(
        type='RandomResizedCrop',
        scale=224,
        interpolation='bicubic',
        backend='pillow',
    ),
    dict(type='RandomFlip', prob=0.5),
]
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='LoadSceneImage'),
            dict(
                type='MultiView',
                num_views=[1, 1],
                transforms=[
                    [*crop_and_flip, *_base_.cpu_view1],
                    [*crop_and_flip, *_base_.cpu_view2],
                ],
            ),
            dict(type='PackInputs'),
        ]
    )
)
