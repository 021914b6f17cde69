# Faster R-CNN with ResNet-18 of half width on VOC's animals and persons.
# Source: this project; faster-rcnn_r50-fpn_48e_voc12.py, sized for the small
# study (plans/small.yaml): short side 160 to 224, 6 epochs. The backbone has
# the stride of 32 that the pyramid needs, with the same weights.
# 1 process x 8 = 8 images. Expected result: docs/study/.
_base_ = [
    './faster-rcnn_r50-fpn_48e_voc12.py',
    '../_base_/models/resnet18_w32.py',
]
classes = ('cat', 'cow', 'dog', 'horse', 'person', 'sheep')
metainfo = dict(classes=classes)
norm_cfg = dict(type='BN', requires_grad=True)
epochs, channels = 6, 64
model = dict(
    backbone=dict(
        _base_.small_backbone, strides=(1, 2, 2, 2), dilations=(1, 1, 1, 1)
    ),
    neck=dict(
        in_channels=[32, 64, 128, 256],
        out_channels=channels,
        norm_cfg=norm_cfg,
    ),
    rpn_head=dict(in_channels=channels, feat_channels=channels),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=channels),
        bbox_head=dict(
            in_channels=channels,
            conv_out_channels=channels,
            fc_out_channels=256,
            num_classes=len(classes),
            norm_cfg=norm_cfg,
        ),
    ),
    train_cfg=dict(
        rpn_proposal=dict(max_per_img=200), rcnn=dict(sampler=dict(num=64))
    ),
    test_cfg=dict(rpn=dict(max_per_img=200), rcnn=dict(max_per_img=50)),
)
train_dataloader = dict(
    num_workers=1,
    dataset=dict(
        metainfo=metainfo,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='LoadAnnotations', with_bbox=True),
            dict(
                _base_.choose_size,
                scales=[(448, short) for short in range(160, 225, 32)],
            ),
            *_base_.flip_and_pack,
        ],
    ),
)
val_dataloader = dict(
    num_workers=1,
    dataset=dict(
        metainfo=metainfo,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(448, 224), keep_ratio=True),
            dict(type='LoadAnnotations', with_bbox=True),
            _base_.pack_for_test,
        ],
    ),
)
test_dataloader = val_dataloader
param_scheduler = [
    dict(_base_.param_scheduler[0]),
    dict(_base_.param_scheduler[1], milestones=[4]),
]
train_cfg = dict(max_epochs=epochs, val_interval=epochs)
default_hooks = dict(checkpoint=dict(interval=1))
