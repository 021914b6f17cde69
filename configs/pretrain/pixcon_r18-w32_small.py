# PixCon-SR for a few thousand photographs on a CPU: ResNet-18 of half width.
# Source: this project; the main recipe, sized for small data.
# Stride 16, so that views of 64 px have 4 x 4 cells; the queue is a quarter
# of the 4,126 photographs. 1 process x 128 = 128 images.
# Expected result: docs/study/.
_base_ = [
    '../_base_/models/pixcon_r50.py',
    '../_base_/models/resnet18_w32.py',
    '../_base_/datasets/coco_two_views.py',
    '../_base_/schedules/sgd_cosine_75e_small.py',
    '../_base_/pretrain_runtime.py',
]
data_root = 'data/small/pool/'
norm_cfg = dict(type='BN')
model = dict(
    queue_len=1024,
    backbone=_base_.small_backbone,
    neck=dict(in_channels=256, hid_channels=256, norm_cfg=norm_cfg),
    head=dict(hid_channels=256, norm_cfg=norm_cfg),
)
train_dataloader = dict(
    batch_size=128,
    num_workers=1,
    dataset=dict(
        data_root=data_root,
        pipeline=[
            dict(type='LoadSceneImage'),
            dict(type='TwoViewRandomResizedCrop', scale=64),
            dict(type='TwoViewRandomFlip', prob=0.5),
            dict(
                type='SamplePhotometrics', views=[_base_.view1, _base_.view2]
            ),
            dict(type='PackTwoViewInputs'),
        ],
    ),
)
default_hooks = dict(
    logger=dict(interval=16),
    # All are kept, to measure what is learned during the training.
    checkpoint=dict(interval=5, max_keep_ckpts=-1),
)
