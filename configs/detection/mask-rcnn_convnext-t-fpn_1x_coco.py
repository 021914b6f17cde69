# Mask R-CNN ConvNeXt-T-FPN, COCO, 90k iterations (1x); untested.
# Source: this project; optimiser and drop path are those of MMDetection's
# mask-rcnn_swin-t-p4-w7_fpn_1x_coco. 8 GPUs x 2 = 16 images.
# Expected result: unknown.
_base_ = './mask-rcnn_r50-fpn_1x_coco.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.ConvNeXt',
        arch='tiny',
        drop_path_rate=0.2,
        out_indices=(0, 1, 2, 3),
        gap_before_final_norm=False,
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
# Norms of the maps that pixcon_convnext-t_coco.py does not use.
default_hooks = dict(pretrained=dict(new_layers=['norm0', 'norm1', 'norm2']))
optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='AdamW', lr=1e-4, weight_decay=0.05)
)
