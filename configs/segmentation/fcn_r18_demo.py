# FCN with ResNet-18 of half width on the demo's scenes, for two CPU cores.
# Source: this project (`make demo`); fine-tuning in a minute or two.
# 1 process x 16 = 16 images. Expected result: printed by the demo, which is a
# trial of the software, not a benchmark.
_base_ = [
    '../_base_/models/fcn-d6_r18-w32.py',
    '../_base_/datasets/segmentation.py',
    '../_base_/schedules/segmentation_poly_40k.py',
    '../_base_/segmentation_runtime.py',
]
data_root = 'data/demo/'
scale, crop_size = (240, 180), (128, 128)
classes = (
    'ground',
    'person',
    'cat',
    'cup',
    'motorcycle',
    'coin',
    'retina',
    'logo',
)
metainfo = dict(
    classes=classes,
    palette=[
        [0, 0, 0],
        [220, 20, 60],
        [255, 165, 0],
        [60, 180, 75],
        [0, 130, 200],
        [255, 225, 25],
        [145, 30, 180],
        [70, 240, 240],
    ],
)
model = dict(
    data_preprocessor=dict(size=crop_size),
    decode_head=dict(num_classes=len(classes)),
)
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='Resize', scale=scale, keep_ratio=True),
    dict(type='LoadAnnotations'),
    _base_.pack,
]
train_dataloader = dict(
    batch_size=16,
    num_workers=1,
    dataset=dict(
        type='BaseSegDataset',
        data_root=data_root,
        data_prefix=dict(
            img_path='train2017', seg_map_path='semantic/train2017'
        ),
        metainfo=metainfo,
        pipeline=[
            *_base_.load,
            dict(_base_.random_resize, scale=scale, ratio_range=(0.75, 1.33)),
            dict(type='RandomCrop', crop_size=crop_size),
            _base_.flip,
            _base_.pack,
        ],
    ),
)
val_dataloader = dict(
    num_workers=1,
    dataset=dict(
        type='BaseSegDataset',
        data_root=data_root,
        data_prefix=dict(img_path='val2017', seg_map_path='semantic/val2017'),
        metainfo=metainfo,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=0.05, weight_decay=1e-4))
param_scheduler = [dict(_base_.param_scheduler[0], end=120)]
train_cfg = dict(max_iters=120, val_interval=120)
default_hooks = dict(logger=dict(interval=20), checkpoint=dict(interval=120))
