# DenseCL baseline, ResNet-50, COCO train2017, 800 epochs.
# Source: model and augmentation (MoCo-v2's, independent crops) of MMPretrain's
# densecl_resnet50_8xb32-coslr-200e_in1k; optimiser, batch, precision and
# schedule of the release (docs/method.md, section 9), warm-up of 4 epochs
# included, which DenseCL's own COCO recipe (lr 0.3 for 256 images) lacks.
# Saturation 0.4 is DenseCL's and MoCo-v2's; the release states 0.2, in lines
# that have no effect. Lambda is 0.5 from the start, as in all three recipes:
# none uses the hook of DenseCL's code that keeps it at 0 for 1,000 iterations.
# 8 GPUs x 64 = 512 images. Expected result: not measured here yet.
_base_ = [
    '../_base_/models/densecl_r50.py',
    '../_base_/datasets/coco_moco_views.py',
    '../_base_/schedules/sgd_cosine_800e.py',
    '../_base_/pretrain_runtime.py',
]
optim_wrapper = dict(optimizer=dict(lr=0.3))
