"""Pairs of overlapping crops of the images of a folder, COCO train2017.

Source: docs/method.md, section 3; colour jitter, blur and solarisation as in
BYOL. The loader samples their parameters, and the model's device applies them;
cpu_photometrics.py does the same in the loader.
"""

data_root = 'data/coco/train2017/'
view1 = dict(
    jitter=0.8,
    brightness=0.4,
    contrast=0.4,
    saturation=0.2,
    hue=0.1,
    grayscale=0.2,
    blur=1.0,
    sigma=(0.1, 2.0),
    solarize=0.0,
)
view2 = dict(view1, blur=0.1, solarize=0.2)
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
            dict(type='SamplePhotometrics', views=[view1, view2]),
            dict(type='PackTwoViewInputs'),
        ],
    ),
)
