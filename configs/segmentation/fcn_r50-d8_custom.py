# FCN R50-d8 on your own images and masks, 48 epochs.
# Source: fcn_r50-d8_80k_ade20k.py, counted in epochs. docs/your_data.md has
# the folders that it reads.
# 1 GPU x 8 = 8 images. Expected result: depends on your data.
_base_ = [
    '../_base_/models/fcn_r50-d8.py',
    '../_base_/datasets/segmentation.py',
    '../_base_/schedules/segmentation_poly_epochs.py',
    '../_base_/segmentation_runtime.py',
]
custom_imports = dict(
    imports=['pixcon_mm', 'pixcon_mm.datasets.mask_folder'],
    allow_failed_imports=False,
)
data_root = 'data/custom/'
classes = ()  # your class names
metainfo = dict(classes=classes)
# Grey value of each class in the masks; None: 0, 1, 2, ...
mask_values = None
model = dict(
    data_preprocessor=dict(size=_base_.crop_size),
    decode_head=dict(num_classes=len(classes)),
    auxiliary_head=dict(num_classes=len(classes)),
)
train_dataloader = dict(
    batch_size=8,
    sampler=dict(type='DefaultSampler'),
    dataset=dict(
        type='MaskFolderDataset',
        data_root=data_root,
        metainfo=metainfo,
        mask_values=mask_values,
        data_prefix=dict(img_path='images/train', seg_map_path='masks/train'),
    ),
)
val_dataloader = dict(
    dataset=dict(
        type='MaskFolderDataset',
        data_root=data_root,
        metainfo=metainfo,
        mask_values=mask_values,
        data_prefix=dict(img_path='images/val', seg_map_path='masks/val'),
    )
)
test_dataloader = val_dataloader
default_hooks = dict(
    logger=dict(interval=10, log_metric_by_epoch=True),
    checkpoint=dict(by_epoch=True, interval=4),
)
log_processor = dict(by_epoch=True)
