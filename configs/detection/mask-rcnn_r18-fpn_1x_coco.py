# Mask R-CNN R18-FPN, COCO, 90k iterations (1x).
# Source: this project; mask-rcnn_r50-fpn_1x_coco.py with a smaller backbone,
# for checkpoints of pixcon_r18_100e_coco.py. 8 GPUs x 2 = 16 images.
# Expected result: not measured here yet.
_base_ = './mask-rcnn_r50-fpn_1x_coco.py'
model = dict(
    backbone=dict(depth=18),
    neck=dict(in_channels=[64, 128, 256, 512]),
)
