# Mask R-CNN R50-C4, COCO, 90k iterations (1x).
# Source: coco_R_50_C4_1x_moco of the release (reference file, section 4.2).
# 8 GPUs x 2 = 16 images. Expected result: not measured here yet.
# Known differences: MMDetection's code in place of detectron2's.
_base_ = [
    '../_base_/faster-rcnn_r50-c4.py',
    '../_base_/coco_instances.py',
    '../_base_/detection_runtime.py',
]
# MMPretrain has the shared head with the extra norm.
custom_imports = dict(
    imports=['pixcon_mm', 'mmpretrain.models.utils.res_layer_extra_norm'],
    allow_failed_imports=False,
)
model = dict(
    type='MaskRCNN',
    data_preprocessor=dict(pad_mask=True),
    roi_head=dict(
        # The mask head reads the features of the box head.
        mask_roi_extractor=None,
        mask_head=dict(
            type='FCNMaskHead',
            num_convs=0,
            in_channels=2048,
            conv_out_channels=256,
            num_classes=80,
            loss_mask=dict(type='CrossEntropyLoss', use_mask=True),
        ),
    ),
    train_cfg=dict(rcnn=dict(mask_size=14)),
    test_cfg=dict(rcnn=dict(mask_thr_binary=0.5)),
)
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True, with_mask=True),
            dict(
                type='RandomChoiceResize',
                scales=[
                    (1200, 640),
                    (1200, 672),
                    (1200, 704),
                    (1200, 736),
                    (1200, 768),
                    (1200, 800),
                ],
                keep_ratio=True,
            ),
            dict(type='RandomFlip', prob=0.5),
            dict(type='PackDetInputs'),
        ]
    )
)
param_scheduler = [
    dict(type='WarmupLR', start_factor=1e-3, by_epoch=False, end=1000),
    dict(
        type='MultiStepLR',
        by_epoch=False,
        milestones=[60000, 80000],
        gamma=0.1,
    ),
]
train_cfg = dict(
    type='IterBasedTrainLoop', max_iters=90000, val_interval=90000
)
