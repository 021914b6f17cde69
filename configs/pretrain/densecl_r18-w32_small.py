# DenseCL for small data, with the backbone, batch, queue and schedule of
# pixcon_r18-w32_small.py and its own augmentation, at 64 px.
# Source: densecl_r50_coco.py. The key encoder's m is 0.99, the value at which
# PixCon's starts; with 0.999 it would lag behind by a third of the run.
# 1 process x 128 = 128 images. Expected result: docs/study/.
_base_ = [
    '../_base_/models/densecl_r50.py',
    '../_base_/models/resnet18_w32.py',
    '../_base_/datasets/coco_moco_views.py',
    '../_base_/schedules/sgd_cosine_75e_small.py',
    '../_base_/pretrain_runtime.py',
]
data_root = 'data/small/pool/'
model = dict(
    queue_len=1024,
    momentum=0.01,
    backbone=_base_.small_backbone,
    neck=dict(in_channels=256, hid_channels=256),
)
view = [dict(_base_.view[0], scale=64), *_base_.view[1:]]
train_dataloader = dict(
    batch_size=128,
    num_workers=1,
    dataset=dict(
        data_root=data_root,
        pipeline=[
            dict(type='LoadSceneImage'),
            dict(type='MultiView', num_views=[2], transforms=[view]),
            dict(type='PackInputs'),
        ],
    ),
)
default_hooks = dict(
    logger=dict(interval=16),
    checkpoint=dict(interval=5, max_keep_ckpts=-1),
)
