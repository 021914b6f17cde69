# PixCon-SR, ConvNeXt-T, COCO train2017, 300 epochs; untested.
# Source: this project; the paper has ResNets only. Rate, decay and warm-up
# are those of ConvNeXt's supervised training (AdamW, 4e-3 for 4,096 images),
# scaled to 512. 8 GPUs x 64 = 512 images. Expected result: unknown.
_base_ = [
    '../_base_/models/pixcon_r50.py',
    '../_base_/datasets/coco_two_views.py',
    '../_base_/schedules/adamw_cosine_300e.py',
    '../_base_/pretrain_runtime.py',
]
model = dict(
    backbone=dict(
        _delete_=True,
        type='ConvNeXt',
        arch='tiny',
        out_indices=(3,),
        gap_before_final_norm=False,
    ),
    neck=dict(in_channels=768),
)
