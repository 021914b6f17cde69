"""Pascal Context, 60 classes, crops of 480 x 480."""

_base_ = './segmentation.py'
data_root = 'data/VOCdevkit/VOC2010/'
# fmt: off
classes = (
    'background', 'aeroplane', 'bag', 'bed', 'bedclothes', 'bench', 'bicycle',
    'bird', 'boat', 'book', 'bottle', 'building', 'bus', 'cabinet', 'car',
    'cat', 'ceiling', 'chair', 'cloth', 'computer', 'cow', 'cup', 'curtain',
    'dog', 'door', 'fence', 'floor', 'flower', 'food', 'grass', 'ground',
    'horse', 'keyboard', 'light', 'motorbike', 'mountain', 'mouse', 'person',
    'plate', 'platform', 'pottedplant', 'road', 'rock', 'sheep', 'shelves',
    'sidewalk', 'sign', 'sky', 'snow', 'sofa', 'table', 'track', 'train',
    'tree', 'truck', 'tvmonitor', 'wall', 'water', 'window', 'wood',
)
# fmt: on
metainfo = dict(classes=classes)
scale, crop_size = (520, 520), (480, 480)
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
train_dataloader = dict(
    dataset=dict(
        type='PascalContextDataset',
        data_root=data_root,
        metainfo=metainfo,
        ann_file='ImageSets/SegmentationContext/train.txt',
        data_prefix=dict(
            img_path='JPEGImages', seg_map_path='SegmentationClassContext'
        ),
        pipeline=train_pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        type='PascalContextDataset',
        data_root=data_root,
        metainfo=metainfo,
        ann_file='ImageSets/SegmentationContext/val.txt',
        data_prefix=dict(
            img_path='JPEGImages', seg_map_path='SegmentationClassContext'
        ),
        pipeline=test_pipeline,
    )
)
test_dataloader = val_dataloader
