# Mask R-CNN R50-FPN, Cityscapes instances (8 classes), 24k iterations.
# Source: Cityscapes/mask_rcnn_R_50_FPN_moco of the release (reference file,
# section 4.2). Unlike the COCO recipe it keeps the heads of detectron2's
# Base-RCNN-FPN: two linear layers for the boxes, four convolutions for the
# masks, no norm in either. Backbone and FPN have SyncBN.
# 8 GPUs x 1 = 8 images. Expected result: not measured here yet.
# Known differences: MMDetection's code in place of detectron2's; COCO's
# metric. Annotations: those of MMDetection's tools/dataset_converters.
_base_ = [
    '../_base_/mask-rcnn_r50-fpn.py',
    '../_base_/coco_instances.py',
    '../_base_/detection_runtime.py',
]
data_root = 'data/cityscapes/'
model = dict(
    roi_head=dict(
        bbox_head=dict(type='Shared2FCBBoxHead', norm_cfg=None, num_classes=8),
        mask_head=dict(norm_cfg=None, num_classes=8),
    )
)
train_dataloader = dict(
    batch_size=1,
    dataset=dict(
        type='CityscapesDataset',
        data_root=data_root,
        ann_file='annotations/instancesonly_filtered_gtFine_train.json',
        data_prefix=dict(img='leftImg8bit/train/'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            dict(
                type='RandomChoiceResize',
                scales=[
                    (2048, 800),
                    (2048, 832),
                    (2048, 864),
                    (2048, 896),
                    (2048, 928),
                    (2048, 960),
                    (2048, 992),
                    (2048, 1024),
                ],
                keep_ratio=True,
            ),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackDetInputs'),
        ],
    ),
)
val_dataloader = dict(
    dataset=dict(
        type='CityscapesDataset',
        data_root=data_root,
        ann_file='annotations/instancesonly_filtered_gtFine_val.json',
        data_prefix=dict(img='leftImg8bit/val/'),
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(2048, 1024), keep_ratio=True),
            dict(
                type='PackDetInputs',
                meta_keys=(
                    'img_id',
                    'img_path',
                    'ori_shape',
                    'img_shape',
                    'scale_factor',
                ),
            ),
        ],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    ann_file=data_root + 'annotations/instancesonly_filtered_gtFine_val.json'
)
test_evaluator = val_evaluator
optim_wrapper = dict(optimizer=dict(lr=0.01))
param_scheduler = [
    dict(type='WarmupLR', start_factor=1e-3, by_epoch=False, end=1000),
    dict(type='MultiStepLR', by_epoch=False, milestones=[18000], gamma=0.1),
]
train_cfg = dict(
    type='IterBasedTrainLoop', max_iters=24000, val_interval=24000
)
auto_scale_lr = dict(base_batch_size=8)
