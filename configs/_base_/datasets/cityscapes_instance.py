"""Cityscapes with boxes and masks of 8 classes, COCO's metric.

Annotations: those of MMDetection's tools/dataset_converters.
"""

_base_ = './coco_instance.py'
data_root = 'data/cityscapes/'
# fmt: off
classes = (
    'person', 'rider', 'car', 'truck', 'bus', 'train', 'motorcycle', 'bicycle',
)
# fmt: on
metainfo = dict(classes=classes)
val_file = 'annotations/instancesonly_filtered_gtFine_val.json'
train_dataloader = dict(
    batch_size=1,
    dataset=dict(
        type='CityscapesDataset',
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/instancesonly_filtered_gtFine_train.json',
        data_prefix=dict(img='leftImg8bit/train/'),
        pipeline=[
            *_base_.load_with_masks,
            dict(
                _base_.choose_size,
                scales=[(2048, short) for short in range(800, 1025, 32)],
            ),
            *_base_.flip_and_pack,
        ],
    ),
)
val_dataloader = dict(
    dataset=dict(
        type='CityscapesDataset',
        data_root=data_root,
        metainfo=metainfo,
        ann_file=val_file,
        data_prefix=dict(img='leftImg8bit/val/'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(2048, 1024), keep_ratio=True),
            _base_.pack_for_test,
        ],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + val_file)
test_evaluator = val_evaluator
