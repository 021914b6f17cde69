# Faster R-CNN R50-FPN on your own data in the format of Pascal VOC, 48 epochs.
# Source: faster-rcnn_r50-fpn_custom_coco.py with VOC's files and metric.
# docs/your_data.md has the folders that it reads.
# 1 GPU x 8 = 8 images. Expected result: depends on your data.
_base_ = './faster-rcnn_r50-fpn_custom_coco.py'
custom_imports = dict(
    imports=['pixcon_mm', 'pixcon_mm.datasets.xml_folder'],
    allow_failed_imports=False,
)
train_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='XMLFolderDataset',
        data_root=_base_.data_root,
        metainfo=_base_.metainfo,
        ann_file='ImageSets/Main/train.txt',
        data_prefix=dict(sub_data_root=''),
        filter_cfg=dict(filter_empty_gt=True),
        pipeline=_base_.train_dataloader.dataset.pipeline,
    )
)
val_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type='XMLFolderDataset',
        data_root=_base_.data_root,
        metainfo=_base_.metainfo,
        ann_file='ImageSets/Main/val.txt',
        data_prefix=dict(sub_data_root=''),
        test_mode=True,
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=(1333, 800), keep_ratio=True),
            # The metric reads the boxes from the samples.
            dict(type='LoadAnnotations', with_bbox=True),
            _base_.pack_for_test,
        ],
    )
)
test_dataloader = val_dataloader
val_evaluator = dict(
    _delete_=True, type='VOCMetric', metric='mAP', eval_mode='area'
)
test_evaluator = val_evaluator
