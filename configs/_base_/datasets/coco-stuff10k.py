"""COCO-Stuff 10k, 171 classes, crops of 512 x 512."""

_base_ = './segmentation.py'
data_root = 'data/coco_stuff10k/'
train_dataloader = dict(
    dataset=dict(
        type='COCOStuffDataset',
        data_root=data_root,
        data_prefix=dict(
            img_path='images/train2014', seg_map_path='annotations/train2014'
        ),
        reduce_zero_label=True,
    )
)
val_dataloader = dict(
    dataset=dict(
        type='COCOStuffDataset',
        data_root=data_root,
        data_prefix=dict(
            img_path='images/test2014', seg_map_path='annotations/test2014'
        ),
        reduce_zero_label=True,
    )
)
test_dataloader = val_dataloader
