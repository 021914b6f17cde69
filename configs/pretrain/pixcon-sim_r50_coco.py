# PixCon-Sim: the most similar key cell is the positive, all weights are 1.
# Source: the paper's first variant; the rest is as in pixcon_r50_coco.py.
# 8 GPUs x 64 = 512 images. Expected result: not measured here yet.
# Known differences from the release: docs/method.md, section 11.
_base_ = './pixcon_r50_coco.py'
model = dict(head=dict(matching='similarity', reweight=None))
