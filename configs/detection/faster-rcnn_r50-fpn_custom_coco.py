# Faster R-CNN R50-FPN on your own data in COCO's format, 48 epochs: for boxes
# without masks.
# Source: mask-rcnn_r50-fpn_custom_coco.py without its mask head.
# docs/your_data.md has the folders that it reads.
# 1 GPU x 8 = 8 images. Expected result: depends on your data.
_base_ = './mask-rcnn_r50-fpn_custom_coco.py'
model = dict(
    type='FasterRCNN',
    data_preprocessor=dict(pad_mask=False),
    roi_head=dict(mask_roi_extractor=None, mask_head=None),
)
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(
                _base_.choose_size,
                scales=[(1333, short) for short in range(640, 801, 32)],
            ),
            *_base_.flip_and_pack,
        ]
    )
)
val_evaluator = dict(metric='bbox')
test_evaluator = val_evaluator
