# Mask R-CNN R50-C4, COCO, 90k iterations (1x).
# Source: coco_R_50_C4_1x_moco of the release (docs/method.md, section 10.1).
# 8 GPUs x 2 = 16 images. Expected result: not measured here yet.
# Known differences: MMDetection's code in place of detectron2's.
_base_ = [
    '../_base_/models/faster-rcnn_r50-c4.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/detection_1x.py',
    '../_base_/detection_runtime.py',
]
# MMPretrain's module has the shared head with the extra norm.
custom_imports = dict(
    imports=['pixcon_mm', 'mmpretrain.models.utils.res_layer_extra_norm'],
    allow_failed_imports=False,
)
model = dict(
    type='MaskRCNN',
    data_preprocessor=dict(pad_mask=True),
    roi_head=dict(
        bbox_head=dict(num_classes=len(_base_.classes)),
        # The mask head reads the features of the box head.
        mask_roi_extractor=None,
        mask_head=dict(
            type='FCNMaskHead',
            num_convs=0,
            in_channels=2048,
            conv_out_channels=256,
            num_classes=len(_base_.classes),
            loss_mask=dict(type='CrossEntropyLoss', use_mask=True),
        ),
    ),
    train_cfg=dict(rcnn=dict(mask_size=14)),
    test_cfg=dict(rcnn=dict(mask_thr_binary=0.5)),
)
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            *_base_.load_with_masks,
            dict(
                _base_.choose_size,
                scales=[(1200, short) for short in range(640, 801, 32)],
            ),
            *_base_.flip_and_pack,
        ]
    )
)
