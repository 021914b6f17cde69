# FCN R18-d8, ADE20K (150 classes), 80k iterations.
# Source: this project; fcn_r50-d8_80k_ade20k.py with a smaller backbone and
# the widths of MMSegmentation's fcn_r18-d8_4xb2-80k_cityscapes-512x1024, for
# checkpoints of pixcon_r18_100e_coco.py. 4 GPUs x 4 = 16 images.
# Expected result: not measured here yet.
_base_ = './fcn_r50-d8_80k_ade20k.py'
model = dict(
    backbone=dict(depth=18),
    decode_head=dict(in_channels=512, channels=128),
    auxiliary_head=dict(in_channels=256, channels=64),
)
