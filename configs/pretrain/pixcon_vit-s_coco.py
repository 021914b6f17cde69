# PixCon-SR, ViT-S/16, COCO train2017, 300 epochs; untested.
# Source: this project; the paper has ResNets only. Rate, decay and warm-up
# are those of MoCo v3's ViT (AdamW, 1.5e-4 for 256 images), scaled to 512;
# unlike in MoCo v3, the patch embedding is trained. The map has 14 x 14 cells,
# so the dense loss has four times the rows of a ResNet's.
# 8 GPUs x 64 = 512 images. Expected result: unknown.
_base_ = './pixcon_convnext-t_coco.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='VisionTransformer',
        arch='deit-small',
        img_size=224,
        patch_size=16,
        out_type='featmap',
    ),
    neck=dict(in_channels=384),
)
optim_wrapper = dict(optimizer=dict(lr=3e-4, weight_decay=0.1))
param_scheduler = [
    dict(_base_.param_scheduler[0], end=40),
    _base_.param_scheduler[1],
]
