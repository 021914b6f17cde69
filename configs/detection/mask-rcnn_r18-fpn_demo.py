# Mask R-CNN R18-FPN of half width on the demo's scenes, for two CPU cores.
# Source: this project (`make demo`); fine-tuning in a minute or two.
# 1 process x 4 = 4 images. Expected result: printed by the demo, which is a
# trial of the software, not a benchmark.
_base_ = [
    '../_base_/models/mask-rcnn_r50-fpn.py',
    '../_base_/models/rcnn_r18-w32-fpn.py',
    '../_base_/datasets/coco_instance.py',
    '../_base_/schedules/detection_1x.py',
    '../_base_/detection_runtime.py',
]
data_root = 'data/demo/'
classes = ('person', 'cat', 'cup', 'motorcycle', 'coin', 'retina', 'logo')
metainfo = dict(classes=classes)
model = dict(
    _base_.small_rcnn,
    roi_head=dict(
        bbox_roi_extractor=_base_.small_extractor,
        bbox_head=dict(
            _base_.small_head,
            fc_out_channels=256,
            num_classes=len(classes),
        ),
        mask_roi_extractor=_base_.small_extractor,
        mask_head=dict(_base_.small_head, num_classes=len(classes)),
    ),
    test_cfg=dict(rpn=dict(max_per_img=100), rcnn=dict(max_per_img=30)),
)
train_dataloader = dict(
    batch_size=4,
    num_workers=1,
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        pipeline=[
            *_base_.load_with_masks,
            dict(_base_.choose_size, scales=[(213, 160), (256, 192)]),
            *_base_.flip_and_pack,
        ],
    ),
)
val_dataloader = dict(
    num_workers=1,
    dataset=dict(
        data_root=data_root,
        metainfo=metainfo,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(256, 192), keep_ratio=True),
            _base_.pack_for_test,
        ],
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(ann_file=data_root + 'annotations/instances_val2017.json')
test_evaluator = val_evaluator
custom_hooks = [dict(type='PreciseBatchNormHook', num_batches=20)]
param_scheduler = [
    dict(_base_.param_scheduler[0], end=30),
    dict(type='CosineAnnealingLR', by_epoch=False, end=200),
]
train_cfg = dict(max_iters=200, val_interval=200)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=200))
auto_scale_lr = dict(base_batch_size=4)
