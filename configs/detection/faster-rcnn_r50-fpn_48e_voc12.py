# Faster R-CNN R50-FPN, Pascal VOC 2012 alone, train -> val, 48 epochs.
# Source: faster-rcnn_r50-fpn_custom_voc.py with VOC's classes. Papers train on
# 2007 as well and test on 2007: faster-rcnn_r50-c4_24k_voc0712.py.
# 1 GPU x 8 = 8 images. Expected result: not measured here yet.
_base_ = './faster-rcnn_r50-fpn_custom_voc.py'
data_root = 'data/VOCdevkit/VOC2012/'
# fmt: off
classes = (
    'aeroplane', 'bicycle', 'bird', 'boat', 'bottle', 'bus', 'car', 'cat',
    'chair', 'cow', 'diningtable', 'dog', 'horse', 'motorbike', 'person',
    'pottedplant', 'sheep', 'sofa', 'train', 'tvmonitor',
)
# fmt: on
metainfo = dict(classes=classes)
model = dict(roi_head=dict(bbox_head=dict(num_classes=len(classes))))
train_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
val_dataloader = dict(dataset=dict(data_root=data_root, metainfo=metainfo))
test_dataloader = val_dataloader
