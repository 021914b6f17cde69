# FCN with ResNet-18 of half width on VOC's background, animals and persons.
# Source: this project; fcn-d6_r50-d16_30k_voc12aug.py, sized for the small
# study (plans/small.yaml): short side 224, crops of 128 px, some minutes on a
# CPU. The backbone has the stride and dilation of the pre-training.
# 1 process x 16 = 16 images. Expected result: docs/study/.
_base_ = [
    '../_base_/models/fcn-d6_r18-w32.py',
    '../_base_/datasets/voc12aug.py',
    '../_base_/schedules/segmentation_poly_40k.py',
    '../_base_/segmentation_runtime.py',
]
data_root = 'data/VOCdevkit/VOC2012/'
# Pixels of VOC's other classes are ignored.
classes = ('background', 'cat', 'cow', 'dog', 'horse', 'person', 'sheep')
metainfo = dict(classes=classes)
scale, crop_size = (896, 224), (128, 128)
iterations = 1000
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
        _delete_=True,
        type='PascalVOCDataset',
        data_root=data_root,
        metainfo=metainfo,
        ann_file='ImageSets/Segmentation/trainaug.txt',
        data_prefix=dict(
            img_path='JPEGImages', seg_map_path='SegmentationClassAug'
        ),
        pipeline=[
            *_base_.load,
            dict(_base_.random_resize, scale=scale),
            dict(type='RandomCrop', crop_size=crop_size),
            _base_.flip,
            _base_.pack,
        ],
    ),
)
val_dataloader = dict(
    num_workers=1, dataset=dict(metainfo=metainfo, pipeline=test_pipeline)
)
test_dataloader = val_dataloader
optim_wrapper = dict(optimizer=dict(lr=0.05, weight_decay=1e-4))
param_scheduler = [dict(_base_.param_scheduler[0], end=iterations)]
train_cfg = dict(max_iters=iterations, val_interval=iterations)
default_hooks = dict(logger=dict(interval=50), checkpoint=dict(interval=500))
