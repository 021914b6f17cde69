# PixCon-SR with all augmentation in the loader, for transforms that
# SamplePhotometrics does not have. It is slower: see docs/speed.md.
# Source: the main recipe, with MMPretrain's transforms.
# 8 GPUs x 64 = 512 images. Expected result: not measured here yet.
# Known differences from the release: docs/method.md, section 11.
_base_ = ['./pixcon_r50_coco.py', '../_base_/datasets/cpu_photometrics.py']
train_dataloader = dict(
    dataset=dict(
        pipeline=[
            dict(type='LoadSceneImage'),
            dict(type='TwoViewRandomResizedCrop', scale=224),
            dict(type='TwoViewRandomFlip', prob=0.5),
            dict(
                type='PerViewTransforms',
                transforms=[_base_.cpu_view1, _base_.cpu_view2],
            ),
            dict(type='PackTwoViewInputs'),
        ],
    ),
)
