# Faster R-CNN with ResNet-18 of half width on VOC's animals and persons.
# Source: this project; faster-rcnn_r50-fpn_48e_voc12.py, sized for the small
# study (plans/small.yaml): short side 160 to 224, 3 epochs. Its lists are for
# segmentation, because the study pre-trains on photographs of Main/val. The
# backbone has the stride of 32 that the pyramid needs, with the same weights.
# 1 process x 8 = 8 images. Expected result: docs/study/.
_base_ = [
    './faster-rcnn_r50-fpn_48e_voc12.py',
    '../_base_/models/rcnn_r18-w32-fpn.py',
]
classes = ('cat', 'cow', 'dog', 'horse', 'person', 'sheep')
metainfo = dict(classes=classes)
epochs = 3
model = dict(
    _base_.small_rcnn,
    roi_head=dict(
        bbox_roi_extractor=_base_.small_extractor,
        bbox_head=dict(
            _base_.small_head,
            fc_out_channels=256,
            num_classes=len(classes),
        ),
    ),
    test_cfg=dict(rpn=dict(max_per_img=200), rcnn=dict(max_per_img=50)),
)
train_dataloader = dict(
    num_workers=1,
    dataset=dict(
        metainfo=metainfo,
        ann_file='ImageSets/Segmentation/trainaug.txt',
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
        ann_file='ImageSets/Segmentation/val.txt',
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
    dict(_base_.param_scheduler[1], milestones=[2]),
]
train_cfg = dict(max_epochs=epochs, val_interval=epochs)
default_hooks = dict(checkpoint=dict(interval=1))
