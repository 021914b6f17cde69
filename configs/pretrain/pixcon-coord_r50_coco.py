# PixCon-Coord: the key cell nearest in the image is the positive.
# Source: the paper's second variant, which the release lacks; the definition
# is this project's (docs/method.md, section 4). The rest is as in
# pixcon_r50_coco.py.
# 8 GPUs x 64 = 512 images. Expected result: not measured here yet.
_base_ = './pixcon_r50_coco.py'
model = dict(head=dict(matching='coordinate', reweight=None))
