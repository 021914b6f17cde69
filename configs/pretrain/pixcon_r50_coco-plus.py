# PixCon-SR on COCO+: train2017 and unlabeled2017, 241,690 images.
# Source: docs/method.md, section 9 (472 iterations per epoch).
# 8 GPUs x 64 = 512 images. Expected result: not measured here yet.
# Known differences from the release: docs/method.md, section 11.
_base_ = './pixcon_r50_coco.py'
data_root = ['data/coco/train2017/', 'data/coco/unlabeled2017/']
train_dataloader = dict(dataset=dict(data_root=data_root))
