# PixCon-SR, ResNet-18, COCO train2017, 100 epochs on one GPU.
# Source: this project. The main recipe at a budget for one small GPU (224 px,
# 100 epochs, batch 64, queues of 4,096), with the learning rate scaled to 64
# images and projectors and predictors as wide as the backbone's output.
# 1 GPU x 64 = 64 images. Expected result: not measured here yet.
_base_ = './pixcon_r50_100e_coco.py'
model = dict(
    queue_len=4096,
    backbone=dict(depth=18),
    neck=dict(in_channels=512, hid_channels=512),
    head=dict(hid_channels=512),
)
optim_wrapper = dict(optimizer=dict(lr=0.05))
auto_scale_lr = dict(base_batch_size=64)
