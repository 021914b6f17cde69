# DeepLabv3 R50-d8, COCO-Stuff 10k (171 classes), 20k iterations.
# Source: MMSegmentation's deeplabv3_r50-d8_4xb4-20k_coco-stuff10k-512x512,
# which the release also has (docs/method.md, section 10.2); plain ResNet.
# 4 GPUs x 4 = 16 images. Expected result: not measured here yet.
_base_ = [
    '../_base_/models/fcn_r50-d8.py',
    '../_base_/datasets/coco-stuff10k.py',
    '../_base_/schedules/segmentation_poly_40k.py',
    '../_base_/segmentation_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    decode_head=dict(
        _delete_=True,
        type='ASPPHead',
        in_channels=2048,
        in_index=3,
        channels=512,
        dilations=(1, 12, 24, 36),
        dropout_ratio=0.1,
        num_classes=len(_base_.classes),
        norm_cfg=_base_.norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False),
    ),
    auxiliary_head=dict(num_classes=len(_base_.classes)),
)
param_scheduler = [dict(_base_.param_scheduler[0], end=20000)]
train_cfg = dict(max_iters=20000, val_interval=2000)
