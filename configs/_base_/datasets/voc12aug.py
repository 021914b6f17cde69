"""Pascal VOC 2012 with the augmented set, 21 classes, crops of 513 x 513."""

_base_ = './segmentation.py'
data_root = 'data/VOCdevkit/VOC2012/'
# fmt: off
classes = (
    'background', 'aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus',
    'car', 'cat', 'chair', 'cow', 'diningtable', 'dog', 'horse', 'motorbike',
    'person', 'pottedplant', 'sheep', 'sofa', 'train', 'tvmonitor',
)
# fmt: on
metainfo = dict(classes=classes)
scale, crop_size = (2049, 513), (513, 513)
train_pipeline = [
    *_base_.load,
    dict(_base_.random_resize, scale=scale),
    dict(type='RandomCrop', crop_size=crop_size),
    _base_.flip,
    _base_.pack,
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='LoadAnnotations'),
    _base_.pack,
]
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='ConcatDataset',
        datasets=[
            dict(
                type='PascalVOCDataset',
                data_root=data_root,
                metainfo=metainfo,
                ann_file=f'ImageSets/Segmentation/{images}.txt',
                data_prefix=dict(img_path='JPEGImages', seg_map_path=masks),
                pipeline=train_pipeline,
            )
            for images, masks in (
                ('train', 'SegmentationClass'),
                ('aug', 'SegmentationClassAug'),
            )
        ],
    )
)
val_dataloader = dict(
    dataset=dict(
        type='PascalVOCDataset',
        data_root=data_root,
        metainfo=metainfo,
        ann_file='ImageSets/Segmentation/val.txt',
        data_prefix=dict(
            img_path='JPEGImages', seg_map_path='SegmentationClass'
        ),
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader
