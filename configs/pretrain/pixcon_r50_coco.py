# PixCon-SR, ResNet-50, COCO train2017, 800 epochs: the main recipe.
# Source: the release's configuration (docs/method.md, section 9).
# 8 GPUs x 64 = 512 images. Expected result: not measured here yet.
# Known differences from the release: docs/method.md, section 11.
_base_ = [
    '../_base_/models/pixcon_r50.py',
    '../_base_/datasets/coco_two_views.py',
    '../_base_/schedules/sgd_cosine_800e.py',
    '../_base_/pretrain_runtime.py',
]
