"""Pairs of overlapping crops of the images of a folder.

Source: reference file, section 2.1; colour jitter, blur and solarisation as
in BYOL, the second view with little blur.
"""

data_root = 'data/coco/train2017/'
grayscale = dict(
    type='RandomGrayscale',
    prob=0.2,
    keep_channels=True,
    channel_weights=(0.114, 0.587, 0.2989),
)
color = [
    dict(
        type='RandomApply',
        prob=0.8,
        transforms=[
            dict(
                type='ColorJitter',
                brightness=0.4,
                contrast=0.4,
                saturation=0.2,
                hue=0.1,
                backend='pillow',
            )
        ],
    ),
    grayscale,
]
blur = dict(
    type='GaussianBlur', magnitude_range=(0.1, 2.0), magnitude_std='inf'
)
view1 = [*color, dict(blur, prob=1.0)]
view2 = [
    *color,
    dict(blur, prob=0.1),
    dict(type='Solarize', thr=128, prob=0.2),
]
train_dataloader = dict(
    batch_size=64,
    num_workers=8,
    persistent_workers=True,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='SceneImageDataset',
        data_root=data_root,
        pipeline=[
            dict(type='LoadSceneImage'),
            dict(
                type='TwoViewRandomResizedCrop',
                scale=224,
                area_range=(0.08, 1.0),
                min_overlap=0.01,
                on_no_overlap='skip',
            ),
            dict(type='TwoViewRandomFlip', prob=0.5),
            dict(type='PerViewTransforms', transforms=[view1, view2]),
            dict(type='PackTwoViewInputs'),
        ],
    ),
)
