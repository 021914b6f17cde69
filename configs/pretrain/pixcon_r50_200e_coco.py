# PixCon-SR, ResNet-50, COCO train2017, 200 epochs.
# Source: the main recipe, shortened from 800 epochs as by --epochs 200.
# 8 GPUs x 64 = 512 images. Expected result: not measured here yet.
_base_ = './pixcon_r50_coco.py'
param_scheduler = [
    _base_.param_scheduler[0],
    dict(_base_.param_scheduler[1], end=200, T_max=200),
]
train_cfg = dict(max_epochs=200)
