"""Every fine-tuning config against reference file, sections 4.2, 4.3, 4.5.

The tables hold dotted keys and their values; None means not in the config.
The stock segmentors are also compared with the installed MMSegmentation's own
files.
"""

from importlib.util import find_spec
from pathlib import Path

import pytest
from mmdet.registry import MODELS as DETECTORS
from mmengine.config import Config
from torch.nn.modules.batchnorm import _NormBase

from pixcon_mm.config import load_config
from tests import toy

ROOT = Path(__file__).resolve().parents[1]
SYNC_BN = {'type': 'SyncBN', 'requires_grad': True}

# Sections 4.2 and 4.3: RGB, plain ResNet, nothing frozen, one optimiser.
COMMON = {
    'model.data_preprocessor.mean': (123.675, 116.28, 103.53),
    'model.data_preprocessor.std': (58.395, 57.12, 57.375),
    'model.data_preprocessor.bgr_to_rgb': True,
    'model.backbone.type': 'ResNet',
    'model.backbone.depth': 50,
    'model.backbone.style': 'pytorch',
    'model.backbone.deep_stem': None,
    'model.backbone.frozen_stages': -1,
    'model.backbone.norm_eval': False,
    'model.backbone.zero_init_residual': False,
    'optim_wrapper.type': 'OptimWrapper',
    'optim_wrapper.clip_grad': None,
    'optim_wrapper.accumulative_counts': None,
    'optim_wrapper.optimizer.type': 'SGD',
    'optim_wrapper.optimizer.momentum': 0.9,
    'auto_scale_lr.enable': False,
    'train_dataloader.sampler': {'type': 'InfiniteSampler', 'shuffle': True},
    'train_cfg.type': 'IterBasedTrainLoop',
    'val_dataloader.batch_size': 1,
    'val_dataloader.sampler': {'type': 'DefaultSampler', 'shuffle': False},
    'default_hooks.pretrained': {'type': 'PretrainedHook'},
}

# Section 4.2, detectron2's defaults.
NMS_RPN = {'type': 'nms', 'iou_threshold': 0.7}
DETECTOR = {
    **COMMON,
    'optim_wrapper.optimizer.weight_decay': 1e-4,
    'optim_wrapper.paramwise_cfg': {'norm_decay_mult': 0.0},
    'custom_hooks': ({'type': 'PreciseBatchNormHook', 'num_batches': 200},),
    'model.data_preprocessor.type': 'DetDataPreprocessor',
    'model.rpn_head.type': 'RPNHead',
    'model.rpn_head.anchor_generator.type': 'AnchorGenerator',
    'model.rpn_head.anchor_generator.ratios': (0.5, 1.0, 2.0),
    'model.rpn_head.bbox_coder': {
        'type': 'DeltaXYWHBBoxCoder', 'target_means': (0.0, 0.0, 0.0, 0.0),
        'target_stds': (1.0, 1.0, 1.0, 1.0),
    },
    'model.rpn_head.loss_cls': {
        'type': 'CrossEntropyLoss', 'use_sigmoid': True,
    },
    'model.rpn_head.loss_bbox': {'type': 'L1Loss'},
    'model.roi_head.type': 'StandardRoIHead',
    'model.roi_head.bbox_head.bbox_coder': {
        'type': 'DeltaXYWHBBoxCoder', 'target_means': (0.0, 0.0, 0.0, 0.0),
        'target_stds': (0.1, 0.1, 0.2, 0.2),
    },
    'model.roi_head.bbox_head.reg_class_agnostic': False,
    'model.roi_head.bbox_head.roi_feat_size': 7,
    'model.roi_head.bbox_head.loss_cls': {
        'type': 'CrossEntropyLoss', 'use_sigmoid': False,
    },
    'model.roi_head.bbox_head.loss_bbox': {'type': 'L1Loss'},
    'model.train_cfg.rpn.assigner': {
        'type': 'MaxIoUAssigner', 'pos_iou_thr': 0.7, 'neg_iou_thr': 0.3,
        'min_pos_iou': 0.3, 'match_low_quality': True,
    },
    'model.train_cfg.rpn.sampler': {
        'type': 'RandomSampler', 'num': 256, 'pos_fraction': 0.5,
        'add_gt_as_proposals': False,
    },
    'model.train_cfg.rpn.allowed_border': -1,
    'model.train_cfg.rpn.pos_weight': -1,
    'model.train_cfg.rpn_proposal.nms': NMS_RPN,
    'model.train_cfg.rpn_proposal.min_bbox_size': 0,
    'model.train_cfg.rcnn.assigner': {
        'type': 'MaxIoUAssigner', 'pos_iou_thr': 0.5, 'neg_iou_thr': 0.5,
        'min_pos_iou': 0.5, 'match_low_quality': False,
    },
    'model.train_cfg.rcnn.sampler': {
        'type': 'RandomSampler', 'num': 512, 'pos_fraction': 0.25,
        'add_gt_as_proposals': True,
    },
    'model.train_cfg.rcnn.pos_weight': -1,
    'model.test_cfg.rpn.nms': NMS_RPN,
    'model.test_cfg.rpn.min_bbox_size': 0,
    'model.test_cfg.rcnn.score_thr': 0.05,
    'model.test_cfg.rcnn.nms': {'type': 'nms', 'iou_threshold': 0.5},
    'model.test_cfg.rcnn.max_per_img': 100,
}  # fmt: skip
MASKS = {
    'model.type': 'MaskRCNN',
    'model.data_preprocessor.pad_mask': True,
    'model.roi_head.mask_head.type': 'FCNMaskHead',
    'model.roi_head.mask_head.conv_out_channels': 256,
    'model.roi_head.mask_head.loss_mask': {
        'type': 'CrossEntropyLoss', 'use_mask': True,
    },
    'model.test_cfg.rcnn.mask_thr_binary': 0.5,
}  # fmt: skip
FPN = {
    **DETECTOR,
    **MASKS,
    'model.data_preprocessor.pad_size_divisor': 32,
    'model.backbone.num_stages': None,
    'model.backbone.out_indices': (0, 1, 2, 3),
    'model.neck': {
        'type': 'FPN', 'in_channels': (256, 512, 1024, 2048),
        'out_channels': 256, 'num_outs': 5, 'norm_cfg': SYNC_BN,
    },
    'model.rpn_head.in_channels': 256,
    'model.rpn_head.feat_channels': 256,
    'model.rpn_head.anchor_generator.strides': (4, 8, 16, 32, 64),
    'model.train_cfg.rpn_proposal.nms_pre': 2000,
    'model.train_cfg.rpn_proposal.max_per_img': 1000,
    'model.test_cfg.rpn.nms_pre': 1000,
    'model.test_cfg.rpn.max_per_img': 1000,
    'model.roi_head.shared_head': None,
    'model.roi_head.bbox_roi_extractor': {
        'type': 'SingleRoIExtractor', 'out_channels': 256,
        'featmap_strides': (4, 8, 16, 32), 'roi_layer': {
            'type': 'RoIAlign', 'output_size': 7, 'sampling_ratio': 0,
        },
    },
    'model.roi_head.bbox_head.type': 'Shared4Conv1FCBBoxHead',
    'model.roi_head.bbox_head.in_channels': 256,
    'model.roi_head.bbox_head.conv_out_channels': 256,
    'model.roi_head.bbox_head.fc_out_channels': 1024,
    'model.roi_head.mask_roi_extractor': {
        'type': 'SingleRoIExtractor', 'out_channels': 256,
        'featmap_strides': (4, 8, 16, 32), 'roi_layer': {
            'type': 'RoIAlign', 'output_size': 14, 'sampling_ratio': 0,
        },
    },
    'model.roi_head.mask_head.num_convs': 4,
    'model.roi_head.mask_head.in_channels': 256,
    'model.train_cfg.rcnn.mask_size': 28,
}  # fmt: skip
# The heads of detectron2's Base-RCNN-FPN.
FPN_PLAIN_HEADS = {
    **FPN,
    'model.roi_head.bbox_head.type': 'Shared2FCBBoxHead',
    'model.roi_head.bbox_head.norm_cfg': None,
    'model.roi_head.mask_head.norm_cfg': None,
}
C4 = {
    **DETECTOR,
    'model.data_preprocessor.pad_size_divisor': 1,
    'model.backbone.num_stages': 3,
    'model.backbone.strides': (1, 2, 2),
    'model.backbone.dilations': (1, 1, 1),
    'model.backbone.out_indices': (2,),
    'model.neck': None,
    'model.rpn_head.in_channels': 1024,
    'model.rpn_head.feat_channels': 1024,
    'model.rpn_head.anchor_generator.strides': (16,),
    'model.train_cfg.rpn_proposal.nms_pre': 12000,
    'model.train_cfg.rpn_proposal.max_per_img': 2000,
    'model.test_cfg.rpn.nms_pre': 6000,
    'model.test_cfg.rpn.max_per_img': 1000,
    'model.roi_head.shared_head': {
        'type': 'ResLayerExtraNorm', 'depth': 50, 'stage': 3, 'stride': 2,
        'dilation': 1, 'style': 'pytorch', 'norm_cfg': SYNC_BN,
        'norm_eval': False,
    },
    'model.roi_head.bbox_roi_extractor': {
        'type': 'SingleRoIExtractor', 'out_channels': 1024,
        'featmap_strides': (16,), 'roi_layer': {
            'type': 'RoIAlign', 'output_size': 14, 'sampling_ratio': 0,
        },
    },
    'model.roi_head.bbox_head.type': 'BBoxHead',
    'model.roi_head.bbox_head.with_avg_pool': True,
    'model.roi_head.bbox_head.in_channels': 2048,
}  # fmt: skip
C4_MASKS = {
    **C4,
    **MASKS,
    'model.roi_head.mask_roi_extractor': None,
    'model.roi_head.mask_head.num_convs': 0,
    'model.roi_head.mask_head.in_channels': 2048,
    'model.train_cfg.rcnn.mask_size': 14,
}
C4_BOXES = {
    **C4,
    'model.type': 'FasterRCNN',
    'model.roi_head.mask_head': None,
    'model.test_cfg.rcnn.mask_thr_binary': None,
}

# Below: type, list of images, folders; and what a metric gets.
COCO = {
    'train': (
        ('CocoDataset', 'annotations/instances_train2017.json',
         {'img': 'train2017/'}),
    ),
    'test': ('CocoDataset', 'annotations/instances_val2017.json',
             {'img': 'val2017/'}),
    'metric': {
        'type': 'CocoMetric', 'metric': ('bbox', 'segm'),
        'ann_file': 'data/coco/annotations/instances_val2017.json',
    },
}  # fmt: skip
DETECTION = {
    'mask-rcnn_r50-fpn_1x_coco': {
        **COCO, 'model': FPN, 'classes': 80, 'header': (8, 2, 16), 'lr': 0.02,
        'warmup': 1000, 'steps': (60000, 80000), 'length': 90000,
        'short': (640, 672, 704, 736, 768, 800), 'long': 1333,
        'test_size': (1333, 800),
    },
    'mask-rcnn_r50-fpn_2x_coco': {
        **COCO, 'model': FPN, 'classes': 80, 'header': (8, 2, 16), 'lr': 0.02,
        'warmup': 1000, 'steps': (120000, 160000), 'length': 180000,
        'short': (640, 672, 704, 736, 768, 800), 'long': 1333,
        'test_size': (1333, 800),
    },
    'mask-rcnn_r50-c4_1x_coco': {
        **COCO, 'model': C4_MASKS, 'classes': 80, 'header': (8, 2, 16),
        'lr': 0.02, 'warmup': 1000, 'steps': (60000, 80000), 'length': 90000,
        'short': (640, 672, 704, 736, 768, 800), 'long': 1200,
        'test_size': (1333, 800),
    },
    'faster-rcnn_r50-c4_24k_voc0712': {
        'model': C4_BOXES, 'classes': 20, 'header': (8, 2, 16), 'lr': 0.02,
        'warmup': 100, 'steps': (18000, 22000), 'length': 24000,
        'short': (480, 512, 544, 576, 608, 640, 672, 704, 736, 768, 800),
        'long': 1333, 'test_size': (1333, 800),
        'train': (
            ('VOCDataset', 'VOC2007/ImageSets/Main/trainval.txt',
             {'sub_data_root': 'VOC2007/'}),
            ('VOCDataset', 'VOC2012/ImageSets/Main/trainval.txt',
             {'sub_data_root': 'VOC2012/'}),
        ),
        'test': ('VOCDataset', 'VOC2007/ImageSets/Main/test.txt',
                 {'sub_data_root': 'VOC2007/'}),
        'metric': {
            'type': 'VOCMetric', 'metric': 'mAP', 'eval_mode': '11points',
            'iou_thrs': (
                0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95,
            ),
        },
    },
    'mask-rcnn_r50-fpn_24k_cityscapes': {
        'model': FPN_PLAIN_HEADS, 'classes': 8, 'header': (8, 1, 8),
        'lr': 0.01,
        'warmup': 1000, 'steps': (18000,), 'length': 24000,
        'short': (800, 832, 864, 896, 928, 960, 992, 1024), 'long': 2048,
        'test_size': (2048, 1024),
        'train': (
            ('CityscapesDataset',
             'annotations/instancesonly_filtered_gtFine_train.json',
             {'img': 'leftImg8bit/train/'}),
        ),
        'test': ('CityscapesDataset',
                 'annotations/instancesonly_filtered_gtFine_val.json',
                 {'img': 'leftImg8bit/val/'}),
        'metric': {
            'type': 'CocoMetric', 'metric': ('bbox', 'segm'),
            'ann_file': 'data/cityscapes/annotations/'
                        'instancesonly_filtered_gtFine_val.json',
        },
    },
}  # fmt: skip

# Section 4.3.
SEGMENTOR = {
    **COMMON,
    'optim_wrapper.paramwise_cfg': None,
    'custom_hooks': None,
    'model.type': 'EncoderDecoder',
    'model.data_preprocessor.type': 'SegDataPreProcessor',
    'model.data_preprocessor.pad_val': 0,
    'model.data_preprocessor.seg_pad_val': 255,
    'model.backbone.num_stages': None,
    'model.backbone.out_indices': (0, 1, 2, 3),
    'model.backbone.contract_dilation': True,
    'model.decode_head.in_channels': 2048,
    'model.decode_head.in_index': 3,
    'model.decode_head.loss_decode': {
        'type': 'CrossEntropyLoss', 'use_sigmoid': False,
    },
}  # fmt: skip
D6 = {
    **SEGMENTOR,
    'model.backbone.strides': (1, 2, 2, 1),
    'model.backbone.dilations': (1, 1, 1, 2),
    'model.decode_head.type': 'FCNHead',
    'model.decode_head.num_convs': 2,
    'model.decode_head.kernel_size': None,
    'model.decode_head.channels': 256,
    'model.decode_head.dilation': 6,
    'model.decode_head.concat_input': False,
    'model.decode_head.dropout_ratio': 0.0,
    'model.decode_head.align_corners': True,
    'model.auxiliary_head': None,
}
# MMSegmentation's fcn_r50-d8 and deeplabv3_r50-d8.
D8 = {
    **SEGMENTOR,
    'model.backbone.strides': (1, 2, 1, 1),
    'model.backbone.dilations': (1, 1, 2, 4),
    'model.decode_head.channels': 512,
    'model.decode_head.dropout_ratio': 0.1,
    'model.decode_head.align_corners': False,
    'model.auxiliary_head.type': 'FCNHead',
    'model.auxiliary_head.in_channels': 1024,
    'model.auxiliary_head.in_index': 2,
    'model.auxiliary_head.channels': 256,
    'model.auxiliary_head.num_convs': 1,
    'model.auxiliary_head.dilation': None,
    'model.auxiliary_head.concat_input': False,
    'model.auxiliary_head.dropout_ratio': 0.1,
    'model.auxiliary_head.align_corners': False,
    'model.auxiliary_head.loss_decode': {
        'type': 'CrossEntropyLoss', 'use_sigmoid': False, 'loss_weight': 0.4,
    },
}  # fmt: skip
FCN_D8 = {
    **D8,
    'model.decode_head.type': 'FCNHead',
    'model.decode_head.num_convs': 2,
    'model.decode_head.dilation': None,
    'model.decode_head.concat_input': True,
}
# As MMSegmentation has it for crops of 769 x 769.
FCN_D8_ALIGNED = {
    **FCN_D8,
    'model.decode_head.align_corners': True,
    'model.auxiliary_head.align_corners': True,
}
DEEPLAB_D8 = {
    **D8,
    'model.decode_head.type': 'ASPPHead',
    'model.decode_head.dilations': (1, 12, 24, 36),
}

WHOLE = {'mode': 'whole'}
SLIDE_769 = {
    'mode': 'slide', 'crop_size': (769, 769), 'stride': (513, 513),
}  # fmt: skip
SEGMENTATION = {
    'fcn-d6_r50-d16_30k_voc12aug': {
        'model': D6, 'classes': 21, 'header': (4, 4, 16), 'lr': 0.003,
        'decay': 1e-4, 'steps': (21000, 27000), 'length': 30000,
        'every': 30000, 'scale': (2049, 513), 'crop': (513, 513),
        'photo': False, 'mode': WHOLE,
        'train': (
            ('PascalVOCDataset', 'ImageSets/Segmentation/train.txt',
             {'img_path': 'JPEGImages', 'seg_map_path': 'SegmentationClass'}),
            ('PascalVOCDataset', 'ImageSets/Segmentation/aug.txt',
             {'img_path': 'JPEGImages',
              'seg_map_path': 'SegmentationClassAug'}),
        ),
        'test': ('PascalVOCDataset', 'ImageSets/Segmentation/val.txt',
                 {'img_path': 'JPEGImages',
                  'seg_map_path': 'SegmentationClass'}),
    },
    'fcn-d6_r50-d16_90k_cityscapes': {
        'model': D6, 'classes': 19, 'header': (4, 4, 16), 'lr': 0.01,
        'decay': 1e-4, 'steps': (63000, 81000), 'length': 90000,
        'every': 45000, 'scale': (2049, 1025), 'crop': (769, 769),
        'photo': False,
        'mode': SLIDE_769,
        'train': (
            ('CityscapesDataset', None, {'img_path': 'leftImg8bit/train',
                                         'seg_map_path': 'gtFine/train'}),
        ),
        'test': ('CityscapesDataset', None, {'img_path': 'leftImg8bit/val',
                                             'seg_map_path': 'gtFine/val'}),
    },
    'fcn_r50-d8_40k_cityscapes': {
        'model': FCN_D8_ALIGNED, 'classes': 19, 'header': (4, 2, 8),
        'lr': 0.01,
        'decay': 5e-4, 'eta_min': 1e-4, 'length': 40000, 'every': 4000,
        'scale': (2049, 1025), 'crop': (769, 769), 'photo': True,
        'mode': SLIDE_769,
        'train': (
            ('CityscapesDataset', None, {'img_path': 'leftImg8bit/train',
                                         'seg_map_path': 'gtFine/train'}),
        ),
        'test': ('CityscapesDataset', None, {'img_path': 'leftImg8bit/val',
                                             'seg_map_path': 'gtFine/val'}),
    },
    'fcn_r50-d8_40k_cityscapes-512x1024': {
        'model': FCN_D8, 'classes': 19, 'header': (4, 2, 8), 'lr': 0.01,
        'decay': 5e-4, 'eta_min': 1e-4, 'length': 40000, 'every': 4000,
        'scale': (2048, 1024), 'crop': (512, 1024), 'photo': True,
        'mode': WHOLE,
        'train': (
            ('CityscapesDataset', None, {'img_path': 'leftImg8bit/train',
                                         'seg_map_path': 'gtFine/train'}),
        ),
        'test': ('CityscapesDataset', None, {'img_path': 'leftImg8bit/val',
                                             'seg_map_path': 'gtFine/val'}),
    },
    'fcn_r50-d8_80k_ade20k': {
        'model': FCN_D8, 'classes': 150, 'header': (4, 4, 16), 'lr': 0.01,
        'decay': 5e-4, 'eta_min': 1e-4, 'length': 80000, 'every': 8000,
        'scale': (2048, 512), 'crop': (512, 512), 'photo': True,
        'mode': WHOLE,
        'train': (
            ('ADE20KDataset', None,
             {'img_path': 'images/training',
              'seg_map_path': 'annotations/training'}),
        ),
        'test': ('ADE20KDataset', None,
                 {'img_path': 'images/validation',
                  'seg_map_path': 'annotations/validation'}),
    },
    'fcn_r50-d8_30k_pascal-context': {
        'model': FCN_D8, 'classes': 60, 'header': (4, 4, 16), 'lr': 0.003,
        'decay': 1e-4, 'steps': (21000, 27000), 'length': 30000,
        'every': 30000,
        'scale': (520, 520), 'crop': (480, 480), 'photo': True,
        'mode': {
            'mode': 'slide', 'crop_size': (480, 480), 'stride': (320, 320),
        },
        'train': (
            ('PascalContextDataset',
             'ImageSets/SegmentationContext/train.txt',
             {'img_path': 'JPEGImages',
              'seg_map_path': 'SegmentationClassContext'}),
        ),
        'test': ('PascalContextDataset',
                 'ImageSets/SegmentationContext/val.txt',
                 {'img_path': 'JPEGImages',
                  'seg_map_path': 'SegmentationClassContext'}),
    },
    'deeplabv3_r50-d8_20k_coco-stuff10k': {
        'model': DEEPLAB_D8, 'classes': 171, 'header': (4, 4, 16), 'lr': 0.01,
        'decay': 5e-4, 'eta_min': 1e-4, 'length': 20000, 'every': 2000,
        'scale': (2048, 512), 'crop': (512, 512), 'photo': True,
        'mode': WHOLE, 'reduce_zero_label': True,
        'train': (
            ('COCOStuffDataset', None,
             {'img_path': 'images/train2014',
              'seg_map_path': 'annotations/train2014'}),
        ),
        'test': ('COCOStuffDataset', None,
                 {'img_path': 'images/test2014',
                  'seg_map_path': 'annotations/test2014'}),
    },
}  # fmt: skip

# What differs from MMSegmentation's own files: (here, there).
STOCK_COMMON = {
    'model.pretrained': (None, 'open-mmlab://resnet50_v1c'),
    'model.backbone.type': ('ResNet', 'ResNetV1c'),
    'model.backbone.num_stages': (None, 4),
    'model.backbone.frozen_stages': (-1, None),
    'model.backbone.zero_init_residual': (False, None),
    'model.decode_head.loss_decode.loss_weight': (None, 1.0),
    'param_scheduler.0.begin': (None, 0),
}
# The data set passes it to the step here.
ZERO_LABEL = {
    'train_dataloader.dataset.pipeline.1.reduce_zero_label': (None, True),
    'val_dataloader.dataset.pipeline.2.reduce_zero_label': (None, True),
}
STOCK = {
    'fcn_r50-d8_40k_cityscapes': (
        'fcn/fcn_r50-d8_4xb2-40k_cityscapes-769x769.py',
        {'train_dataloader.num_workers': (4, 2)},
    ),
    'fcn_r50-d8_40k_cityscapes-512x1024': (
        'fcn/fcn_r50-d8_4xb2-40k_cityscapes-512x1024.py',
        {'train_dataloader.num_workers': (4, 2)},
    ),
    'fcn_r50-d8_80k_ade20k': (
        'fcn/fcn_r50-d8_4xb4-80k_ade20k-512x512.py',
        ZERO_LABEL,
    ),
    'fcn_r50-d8_30k_pascal-context': (
        'fcn/fcn_r50-d8_4xb4-40k_pascal-context-480x480.py',
        # The release has its VOC recipe's schedule here.
        {
            'optim_wrapper.optimizer.lr': (0.003, 0.004),
            'param_scheduler.0.type': ('MultiStepLR', 'PolyLR'),
            'param_scheduler.0.milestones.0': (21000, None),
            'param_scheduler.0.milestones.1': (27000, None),
            'param_scheduler.0.gamma': (0.1, None),
            'param_scheduler.0.power': (None, 0.9),
            'param_scheduler.0.eta_min': (None, 1e-4),
            'param_scheduler.0.end': (None, 40000),
            'train_cfg.max_iters': (30000, 40000),
            'train_cfg.val_interval': (30000, 4000),
        },
    ),
    'deeplabv3_r50-d8_20k_coco-stuff10k': (
        'deeplabv3/deeplabv3_r50-d8_4xb4-20k_coco-stuff10k-512x512.py',
        ZERO_LABEL,
    ),
}


@pytest.fixture(autouse=True)
def _framework_state():
    with toy.framework_state():
        yield


def load(task, name):
    """The config and the comment at its top."""
    path = ROOT / f'configs/{task}/{name}.py'
    return load_config(str(path)), path.read_text()


def plain(value):
    """Dicts and tuples in place of the config's own types and lists."""
    if isinstance(value, dict):
        return {key: plain(child) for key, child in value.items()}
    if isinstance(value, list | tuple):
        return tuple(plain(child) for child in value)
    return value


def at(cfg, path):
    """The value of a dotted key, None where there is none."""
    node = cfg
    for name in path.split('.'):
        node = node.get(name) if node is not None else None
    return plain(node)


def leaves(node, path=''):
    """All values below a node by dotted key; empty parts have none."""
    items = enumerate(node) if isinstance(node, tuple) else node.items()
    found = {}
    for key, value in items:
        here = f'{path}.{key}' if path else f'{key}'
        if isinstance(value, dict | tuple):
            found |= leaves(value, here)
        else:
            found[here] = value
    return found


def under(node, key, path=''):
    """The values of a key wherever it is below a node, by dotted key."""
    if isinstance(node, tuple):
        node = {str(i): child for i, child in enumerate(node)}
    found = {}
    for name, child in node.items() if isinstance(node, dict) else ():
        here = f'{path}.{name}' if path else name
        if name == key:
            found[here] = child
        found |= under(child, key, here)
    return found


def sources(cfg):
    """Training sets, and the set of the evaluation."""
    assert cfg.test_dataloader == cfg.val_dataloader
    assert cfg.test_evaluator == cfg.val_evaluator
    train = plain(cfg.train_dataloader.dataset)
    assert train['type'] == 'ConcatDataset' or 'datasets' not in train
    return train.get('datasets', (train,)), plain(cfg.val_dataloader.dataset)


def origin(dataset):
    return tuple(map(dataset.get, ('type', 'ann_file', 'data_prefix')))


def check(cfg, header, wanted, norms, numbers):
    """What both tables have, and the numbers of one config."""
    gpus, per_gpu, total = wanted['header']
    assert f'# {gpus} GPUs x {per_gpu} = {total} images.' in header
    assert gpus * per_gpu == total
    numbers = {
        **wanted['model'],
        **numbers,
        'auto_scale_lr.base_batch_size': total,
        'train_dataloader.batch_size': per_gpu,
        'optim_wrapper.optimizer.lr': wanted['lr'],
        'train_cfg.max_iters': wanted['length'],
    }
    assert {key: at(cfg, key) for key in numbers} == numbers
    model = plain(cfg.model)
    found = under(model, 'norm_cfg')
    assert {part: norm for part, norm in found.items() if norm} == {
        f'{part}.norm_cfg': SYNC_BN for part in norms
    }
    assert not any(under(model, 'norm_eval').values())
    assert not under(model, 'init_cfg')
    assert not under(model, 'pretrained')
    train, test = sources(cfg)
    assert tuple(map(origin, train)) == wanted['train']
    assert origin(test) == wanted['test']


@pytest.mark.parametrize('name', DETECTION)
def test_detection(name):
    wanted = DETECTION[name]
    cfg, header = load('detection', name)
    with_masks = name.startswith('mask')
    norms = ['backbone', 'roi_head.shared_head']
    if 'fpn' in name:
        norms = ['backbone', 'neck']
        if wanted['model'] is FPN:
            norms += ['roi_head.bbox_head', 'roi_head.mask_head']
    schedule = (
        {
            'type': 'WarmupLR', 'start_factor': 0.001, 'by_epoch': False,
            'end': wanted['warmup'],
        },
        {
            'type': 'MultiStepLR', 'by_epoch': False, 'gamma': 0.1,
            'milestones': wanted['steps'],
        },
    )  # fmt: skip
    check(
        cfg,
        header,
        wanted,
        norms,
        {
            'param_scheduler': schedule,
            # Once, at the end.
            'train_cfg.val_interval': wanted['length'],
            'train_dataloader.batch_sampler.type': 'AspectRatioBatchSampler',
            'val_evaluator': wanted['metric'],
        },
    )
    heads = ['bbox_head', 'mask_head'][: 1 + with_masks]
    assert under(plain(cfg.model), 'num_classes') == {
        f'roi_head.{head}.num_classes': wanted['classes'] for head in heads
    }
    anchors = cfg.model.rpn_head.anchor_generator
    sizes = [s * stride for stride in anchors.strides for s in anchors.scales]
    assert sizes == [32, 64, 128, 256, 512]

    train, test = sources(cfg)
    annotations = {'type': 'LoadAnnotations', 'with_bbox': True}
    if with_masks:
        annotations['with_mask'] = True
    for dataset in train:
        assert dataset['filter_cfg'] == {'filter_empty_gt': True}
        assert dataset['pipeline'] == (
            {'type': 'LoadImageFromFile'},
            annotations,
            {
                'type': 'RandomChoiceResize',
                'scales': tuple((wanted['long'], s) for s in wanted['short']),
                'keep_ratio': True,
            },
            {'type': 'RandomFlip', 'prob': 0.5},
            {'type': 'PackDetInputs'},
        )
    assert test['test_mode'] is True
    assert test['pipeline'][:2] == (
        {'type': 'LoadImageFromFile'},
        {'type': 'Resize', 'scale': wanted['test_size'], 'keep_ratio': True},
    )


def test_heads_of_cityscapes_as_built():
    """Two linear layers, four convolutions, and no norm among them."""
    cfg, _ = load('detection', 'mask-rcnn_r50-fpn_24k_cityscapes')
    heads = cfg.model.roi_head
    heads.bbox_head._scope_ = heads.mask_head._scope_ = 'mmdet'
    boxes = DETECTORS.build(heads.bbox_head)
    masks = DETECTORS.build(heads.mask_head)
    kinds = [type(layer).__name__ for layer in boxes.shared_fcs]
    assert kinds == ['Linear', 'Linear']
    assert [fc.out_features for fc in boxes.shared_fcs] == [1024, 1024]
    assert len(boxes.shared_convs) == 0
    assert len(masks.convs) == 4
    for layer in (*boxes.modules(), *masks.modules()):
        assert not isinstance(layer, _NormBase), layer


@pytest.mark.parametrize('name', SEGMENTATION)
def test_segmentation(name):
    wanted = SEGMENTATION[name]
    cfg, header = load('segmentation', name)
    heads = ['decode_head', 'auxiliary_head'][: 2 if '-d8_' in name else 1]
    if 'steps' in wanted:
        schedule = {
            'type': 'MultiStepLR', 'by_epoch': False, 'gamma': 0.1,
            'milestones': wanted['steps'],
        }  # fmt: skip
    else:
        schedule = {
            'type': 'PolyLR', 'by_epoch': False, 'power': 0.9,
            'eta_min': wanted['eta_min'], 'end': wanted['length'],
        }  # fmt: skip
    check(
        cfg,
        header,
        wanted,
        ['backbone', *heads],
        {
            # No warm-up.
            'param_scheduler': (schedule,),
            'train_cfg.val_interval': wanted['every'],
            'optim_wrapper.optimizer.weight_decay': wanted['decay'],
            'val_evaluator': {'type': 'IoUMetric', 'iou_metrics': ('mIoU',)},
            'model.data_preprocessor.size': wanted['crop'],
            'model.test_cfg': wanted['mode'],
        },
    )
    assert under(plain(cfg.model), 'num_classes') == {
        f'{head}.num_classes': wanted['classes'] for head in heads
    }
    train, test = sources(cfg)
    for dataset in (*train, test):
        zero = wanted.get('reduce_zero_label')
        assert dataset.get('reduce_zero_label') is zero
    crop = {'type': 'RandomCrop', 'crop_size': wanted['crop']}
    photo = ()
    if wanted['photo']:
        crop['cat_max_ratio'] = 0.75
        photo = ({'type': 'PhotoMetricDistortion'},)
    for dataset in train:
        assert dataset['pipeline'] == (
            {'type': 'LoadImageFromFile'},
            {'type': 'LoadAnnotations'},
            {
                'type': 'RandomResize',
                'scale': wanted['scale'],
                'ratio_range': (0.5, 2.0),
                'keep_ratio': True,
            },
            crop,
            {'type': 'RandomFlip', 'prob': 0.5},
            *photo,
            {'type': 'PackSegInputs'},
        )
    assert test['pipeline'] == (
        {'type': 'LoadImageFromFile'},
        {'type': 'Resize', 'scale': wanted['scale'], 'keep_ratio': True},
        {'type': 'LoadAnnotations'},
        {'type': 'PackSegInputs'},
    )


@pytest.mark.parametrize('name', STOCK)
def test_stock_segmentors_are_those_of_mmsegmentation(name):
    file, differences = STOCK[name]
    spec = find_spec('mmseg')
    path = spec and Path(spec.origin).parent / '.mim/configs' / file
    if not (path and path.is_file()):
        pytest.skip('MMSegmentation is not installed with its configs')
    ours, _ = load('segmentation', name)
    theirs = Config.fromfile(str(path))
    parts = ['model', 'train_dataloader', 'val_dataloader', 'val_evaluator']
    parts += ['optim_wrapper', 'param_scheduler', 'train_cfg']
    here, there = (
        leaves({part: plain(cfg[part]) for part in parts})
        for cfg in (ours, theirs)
    )
    for found in (here, there):
        for loader in ('train_dataloader', 'val_dataloader'):
            key = f'{loader}.dataset.data_root'
            found[key] = found[key].rstrip('/')
    assert {
        key: (here.get(key), there.get(key))
        for key in {*here, *there}
        if here.get(key) != there.get(key)
    } == {**STOCK_COMMON, **differences}


def test_every_config_has_a_table():
    for task, table in (
        ('detection', DETECTION),
        ('segmentation', SEGMENTATION),
    ):
        names = {path.stem for path in (ROOT / f'configs/{task}').glob('*.py')}
        assert {n for n in names if not n.endswith('_demo')} == {*table}
