# Mask R-CNN R50-FPN on your own data in COCO's format, 48 epochs.
# Source: mask-rcnn_r50-fpn_1x_coco.py, counted in epochs, without precise
# batch norm. docs/your_data.md has the folders that it reads.
# 1 GPU x 8 = 8 images. Expected result: depends on your data.
_base_ = [
    '../_base_/models/mask-rcnn_r50-fpn.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/detection_epochs.py',
    '../_base_/detection_runtime.py',
]
data_root = 'data/custom/'
classes = ()  # your class names
metainfo = dict(classes=classes)
model = dict(
    roi_head=dict(
        bbox_head=dict(num_classes=len(classes)),
        mask_head=dict(num_classes=len(classes)),
    )
)
train_dataloader = dict(
    batch_size=8,
    sampler=dict(type='DefaultSampler'),
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/train.json',
        data_prefix=dict(img='images/train/'),
    ),
)
val_dataloader = dict(
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        ann_file='annotations/val.json',
        data_prefix=dict(img='images/val/'),
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/val.json')
test_evaluator = val_evaluator
custom_hooks = []
default_hooks = dict(
    logger=dict(interval=10, log_metric_by_epoch=True),
    checkpoint=dict(by_epoch=True, interval=4),
)
log_processor = dict(by_epoch=True)
