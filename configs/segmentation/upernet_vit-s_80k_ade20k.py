# UPerNet ViT-S/16, ADE20K (150 classes), 80k iterations; untested.
# Source: this project; necks, heads, optimiser and drop path are those of
# MMSegmentation's vit_deit-s16_mln_upernet_8xb2-160k_ade20k-512x512. The
# position embedding keeps the size of pixcon_vit-s_coco.py (14 x 14) and is
# resized to that of each image. 4 GPUs x 4 = 16 images.
# Expected result: unknown.
_base_ = './upernet_convnext-t_80k_ade20k.py'
channels = 384
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.VisionTransformer',
        arch='deit-small',
        img_size=224,
        patch_size=16,
        drop_path_rate=0.1,
        out_type='featmap',
        out_indices=(2, 5, 8, 11),
    ),
    neck=dict(
        type='MultiLevelNeck',
        in_channels=[channels] * 4,
        out_channels=channels,
        scales=[4, 2, 1, 0.5],
    ),
    decode_head=dict(in_channels=[channels] * 4),
    auxiliary_head=dict(in_channels=channels, in_index=3),
)
default_hooks = dict(pretrained=dict(new_layers=[]))
optim_wrapper = dict(
    optimizer=dict(lr=6e-5, weight_decay=0.01),
    paramwise_cfg=dict(
        _delete_=True,
        # ln1 and ln2 are the norms of MMPretrain's ViT.
        custom_keys={
            name: dict(decay_mult=0.0)
            for name in ('pos_embed', 'cls_token', 'ln1', 'ln2')
        },
    ),
)
