# PixCon-SR, ResNet-50, COCO train2017, 100 epochs.
# Source: the main recipe, its schedule shortened from 800 epochs; the warm-up
# is half an epoch.
# 8 GPUs x 64 = 512 images. Expected result: not measured here yet.
_base_ = './pixcon_r50_coco.py'
param_scheduler = [
    dict(_base_.param_scheduler[0], end=0.5),
    dict(_base_.param_scheduler[1], end=100, T_max=100),
]
train_cfg = dict(max_epochs=100)
