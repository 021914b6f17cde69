# FCN R50-d8, Cityscapes (19 classes), crops of 769 x 769, 40k iterations.
# Source: fcn_r50-d8_769x769_40k_cityscapes of the release (docs/method.md,
# section 10.2): MMSegmentation's fcn_r50-d8_4xb2-40k_cityscapes-769x769 with a
# plain ResNet.
# 4 GPUs x 2 = 8 images. Expected result: not measured here yet.
_base_ = [
    '../_base_/models/fcn_r50-d8.py',
    '../_base_/datasets/cityscapes.py',
    '../_base_/schedules/segmentation_poly_40k.py',
    '../_base_/segmentation_runtime.py',
]
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    decode_head=dict(num_classes=len(_base_.classes), align_corners=True),
    auxiliary_head=dict(num_classes=len(_base_.classes), align_corners=True),
    test_cfg=dict(mode='slide', crop_size=_base_.crop_size, stride=(513, 513)),
)
train_dataloader = dict(batch_size=2)
auto_scale_lr = dict(base_batch_size=8)
