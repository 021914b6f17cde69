# PixCon-SR with ResNet-18 on the demo's scenes, sized for two CPU cores.
# Source: this project (`make demo`); the main recipe in a few minutes.
# 1 process x 32 = 32 images. Expected: the loss rises while keys replace the
# random rows of the queue, then falls below its start.
_base_ = './pixcon_r50_coco.py'
data_root = 'data/demo/train2017/'
norm_cfg = dict(type='BN')
epochs = 8
model = dict(
    # Shorter than the data set: keys of an image are no negatives of it.
    queue_len=256,
    backbone=dict(depth=18, norm_cfg=norm_cfg),
    neck=dict(in_channels=512, hid_channels=512, norm_cfg=norm_cfg),
    head=dict(hid_channels=512, norm_cfg=norm_cfg),
)
train_dataloader = dict(
    batch_size=32,
    num_workers=1,
    dataset=dict(
        data_root=data_root,
        pipeline=[
            dict(type='LoadSceneImage'),
            dict(type='TwoViewRandomResizedCrop', scale=96),
            dict(type='TwoViewRandomFlip', prob=0.5),
            dict(
                type='SamplePhotometrics', views=[_base_.view1, _base_.view2]
            ),
            dict(type='PackTwoViewInputs'),
        ],
    ),
)
optim_wrapper = dict(
    _delete_=True,
    type='OptimWrapper',
    optimizer=dict(
        type='SGD', lr=0.02, momentum=0.9, weight_decay=1e-4, fused=True
    ),
)
param_scheduler = [
    dict(
        type='CosineAnnealingLR',
        by_epoch=True,
        begin=0,
        end=epochs,
        T_max=epochs,
        convert_to_iter_based=True,
    )
]
train_cfg = dict(max_epochs=epochs)
auto_scale_lr = dict(base_batch_size=32)
default_hooks = dict(
    logger=dict(interval=5),
    checkpoint=dict(interval=2),
)
