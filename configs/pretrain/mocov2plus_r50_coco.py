# MoCo-v2+: PixCon's image branch alone, the baseline that PixCon builds on.
# Source: docs/method.md, section 9 (the release has no config for it).
# 8 GPUs x 64 = 512 images. Expected result: not measured here yet.
# Known differences from the release: docs/method.md, section 11.
_base_ = './pixcon_r50_coco.py'
model = dict(loss_lambda=0)
