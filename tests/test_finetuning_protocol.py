"""Every fine-tuning config against reference file, sections 4.2, 4.3, 4.5."""

from pathlib import Path

import pytest

from pixcon_mm.config import load_config
from tests import toy

ROOT = Path(__file__).resolve().parents[1]
MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)

# Section 4.2; sides in pixels, milestones in iterations.
DETECTION = {
    'mask-rcnn_r50-fpn_1x_coco': dict(
        kind='fpn', classes=80, batch=16, per_gpu=2, lr=0.02, length=90000,
        steps=[60000, 80000], warmup=1000, short=range(640, 801, 32),
        long=1333, test=(1333, 800), data='CocoDataset',
    ),
    'mask-rcnn_r50-fpn_2x_coco': dict(
        kind='fpn', classes=80, batch=16, per_gpu=2, lr=0.02, length=180000,
        steps=[120000, 160000], warmup=1000, short=range(640, 801, 32),
        long=1333, test=(1333, 800), data='CocoDataset',
    ),
    'mask-rcnn_r50-c4_1x_coco': dict(
        kind='c4', classes=80, batch=16, per_gpu=2, lr=0.02, length=90000,
        steps=[60000, 80000], warmup=1000, short=range(640, 801, 32),
        long=1200, test=(1333, 800), data='CocoDataset',
    ),
    'faster-rcnn_r50-c4_24k_voc0712': dict(
        kind='c4', classes=20, batch=16, per_gpu=2, lr=0.02, length=24000,
        steps=[18000, 22000], warmup=100, short=range(480, 801, 32),
        long=1333, test=(1333, 800), data='VOCDataset',
    ),
    'mask-rcnn_r50-fpn_24k_cityscapes': dict(
        kind='fpn', classes=8, batch=8, per_gpu=1, lr=0.01, length=24000,
        steps=[18000], warmup=1000, short=range(800, 1025, 32),
        long=2048, test=(2048, 1024), data='CityscapesDataset',
    ),
}  # fmt: skip

# Section 4.3; the stock ones are MMSegmentation's own numbers.
SEGMENTATION = {
    'fcn-d6_r50-d16_30k_voc12aug': dict(
        kind='d6', classes=21, batch=16, per_gpu=4, lr=0.003, decay=1e-4,
        length=30000, steps=[21000, 27000], every=30000, crop=(513, 513),
        scale=(2049, 513), stride=None, data='PascalVOCDataset', zero=False,
    ),
    'fcn-d6_r50-d16_90k_cityscapes': dict(
        kind='d6', classes=19, batch=16, per_gpu=4, lr=0.01, decay=1e-4,
        length=90000, steps=[63000, 81000], every=45000, crop=(769, 769),
        scale=(2049, 1025), stride=(513, 513), data='CityscapesDataset',
        zero=False,
    ),
    'fcn_r50-d8_80k_ade20k': dict(
        kind='d8', classes=150, batch=16, per_gpu=4, lr=0.01, decay=5e-4,
        length=80000, steps=None, every=8000, crop=(512, 512),
        scale=(2048, 512), stride=None, data='ADE20KDataset', zero=True,
    ),
    'fcn_r50-d8_40k_cityscapes': dict(
        kind='d8', classes=19, batch=8, per_gpu=2, lr=0.01, decay=5e-4,
        length=40000, steps=None, every=4000, crop=(512, 1024),
        scale=(2048, 1024), stride=None, data='CityscapesDataset', zero=False,
    ),
    'fcn_r50-d8_30k_pascal-context': dict(
        kind='d8', classes=60, batch=16, per_gpu=4, lr=0.004, decay=1e-4,
        length=30000, steps=None, every=3000, crop=(480, 480),
        scale=(520, 520), stride=(320, 320), data='PascalContextDataset',
        zero=False,
    ),
    'deeplabv3_r50-d8_20k_coco-stuff10k': dict(
        kind='deeplab', classes=171, batch=16, per_gpu=4, lr=0.01, decay=5e-4,
        length=20000, steps=None, every=2000, crop=(512, 512),
        scale=(2048, 512), stride=None, data='COCOStuffDataset', zero=True,
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _framework_state():
    with toy.framework_state():
        yield


def load(task, name):
    return load_config(str(ROOT / f'configs/{task}/{name}.py'))


def holders(node, key):
    """All dicts below a node that have a key."""
    if isinstance(node, dict):
        if key in node:
            yield node
        node = list(node.values())
    for child in node if isinstance(node, list | tuple) else ():
        yield from holders(child, key)


def check_common(cfg, wanted):
    """What sections 4.2 and 4.3 share: weights, norms, colours, batch."""
    model, backbone = cfg.model, cfg.model.backbone
    assert (backbone.type, backbone.depth) == ('ResNet', 50)
    assert backbone.style == 'pytorch'
    assert backbone.frozen_stages == -1
    assert not [*holders(model, 'init_cfg'), *holders(model, 'pretrained')]
    assert cfg.default_hooks.pretrained == dict(type='PretrainedHook')
    for node in holders(model, 'norm_eval'):
        assert node['norm_eval'] is False
    for node in holders(model, 'norm_cfg'):
        assert node['norm_cfg'] == dict(type='SyncBN', requires_grad=True)
    preprocessor = model.data_preprocessor
    assert tuple(preprocessor.mean) == MEAN
    assert tuple(preprocessor.std) == STD
    assert preprocessor.bgr_to_rgb is True
    assert cfg.train_dataloader.batch_size == wanted['per_gpu']
    assert cfg.auto_scale_lr == dict(
        enable=False, base_batch_size=wanted['batch']
    )
    assert cfg.train_cfg.type == 'IterBasedTrainLoop'
    assert cfg.train_cfg.max_iters == wanted['length']
    assert cfg.train_dataloader.sampler == dict(
        type='InfiniteSampler', shuffle=True
    )
    assert cfg.optim_wrapper.type == 'OptimWrapper'
    assert 'clip_grad' not in cfg.optim_wrapper


def datasets(cfg):
    """Training set, or sets, and test set."""
    train = cfg.train_dataloader.dataset
    train = train.get('datasets', [train])
    assert cfg.test_dataloader == cfg.val_dataloader
    assert cfg.test_evaluator == cfg.val_evaluator
    return train, cfg.test_dataloader.dataset


def steps_of(pipeline):
    return {step['type']: step for step in pipeline}


@pytest.mark.parametrize('name', DETECTION)
def test_detection(name):
    cfg, wanted = load('detection', name), DETECTION[name]
    check_common(cfg, wanted)
    assert cfg.optim_wrapper.optimizer == dict(
        type='SGD', lr=wanted['lr'], momentum=0.9, weight_decay=1e-4
    )
    assert cfg.optim_wrapper.paramwise_cfg == dict(norm_decay_mult=0.0)
    warmup, decay = cfg.param_scheduler
    assert warmup == dict(
        type='WarmupLR',
        start_factor=1e-3,
        by_epoch=False,
        end=wanted['warmup'],
    )
    assert decay == dict(
        type='MultiStepLR',
        by_epoch=False,
        milestones=wanted['steps'],
        gamma=0.1,
    )
    # Evaluated once at the end, after precise BN over 200 batches.
    assert cfg.train_cfg.val_interval == wanted['length']
    assert cfg.custom_hooks == [
        dict(type='PreciseBatchNormHook', num_batches=200)
    ]
    train, test = datasets(cfg)
    assert cfg.train_dataloader.batch_sampler.type == 'AspectRatioBatchSampler'
    for dataset in train:
        assert dataset.type == wanted['data']
        assert dataset.filter_cfg == dict(filter_empty_gt=True)
        steps = steps_of(dataset.pipeline)
        assert [*steps] == [
            'LoadImageFromFile',
            'LoadAnnotations',
            'RandomChoiceResize',
            'RandomFlip',
            'PackDetInputs',
        ]
        resize = steps['RandomChoiceResize']
        assert resize.keep_ratio is True
        assert resize.scales == [(wanted['long'], s) for s in wanted['short']]
        assert steps['RandomFlip'].prob == 0.5
    resize = steps_of(test.pipeline)['Resize']
    assert (resize.scale, resize.keep_ratio) == (wanted['test'], True)

    model = cfg.model
    with_masks = 'mask_head' in model.roi_head
    assert with_masks == name.startswith('mask')
    assert model.type == ('MaskRCNN' if with_masks else 'FasterRCNN')
    for node in holders(model, 'num_classes'):
        assert node['num_classes'] == wanted['classes']
    assert len([*holders(model, 'num_classes')]) == 1 + with_masks
    for head in (model.rpn_head, model.roi_head.bbox_head):
        assert head.loss_bbox == dict(type='L1Loss')
    assert model.rpn_head.bbox_coder.target_stds == [1.0] * 4
    coder = model.roi_head.bbox_head.bbox_coder
    assert coder.target_stds == [0.1, 0.1, 0.2, 0.2]
    anchors = model.rpn_head.anchor_generator
    sizes = {s * r for s in anchors.strides for r in anchors.scales}
    assert sizes == {32, 64, 128, 256, 512}
    assert anchors.ratios == [0.5, 1.0, 2.0]
    check_regions(model, with_masks)
    (check_fpn if wanted['kind'] == 'fpn' else check_c4)(model)


def check_regions(model, with_masks):
    """Assignment, sampling and tests of detectron2's defaults."""
    rpn, rcnn = model.train_cfg.rpn, model.train_cfg.rcnn
    for part, ious, low in (
        (rpn, (0.7, 0.3, 0.3), True),
        (rcnn, (0.5, 0.5, 0.5), False),
    ):
        found = part.assigner
        assert found.match_low_quality is low
        names = ('pos_iou_thr', 'neg_iou_thr', 'min_pos_iou')
        assert tuple(found[n] for n in names) == ious
    assert (rpn.sampler.num, rpn.sampler.pos_fraction) == (256, 0.5)
    assert (rcnn.sampler.num, rcnn.sampler.pos_fraction) == (512, 0.25)
    assert rcnn.sampler.add_gt_as_proposals is True
    assert rpn.allowed_border == -1
    test = model.test_cfg
    for proposals in (model.train_cfg.rpn_proposal, test.rpn):
        assert proposals.nms == dict(type='nms', iou_threshold=0.7)
        assert proposals.min_bbox_size == 0
    assert test.rcnn.score_thr == 0.05
    assert test.rcnn.nms == dict(type='nms', iou_threshold=0.5)
    assert test.rcnn.max_per_img == 100
    if with_masks:
        assert test.rcnn.mask_thr_binary == 0.5


def proposals(model):
    train, test = model.train_cfg.rpn_proposal, model.test_cfg.rpn
    return (train.nms_pre, train.max_per_img, test.nms_pre, test.max_per_img)


def check_fpn(model):
    assert proposals(model) == (2000, 1000, 1000, 1000)
    assert (model.neck.type, model.neck.out_channels) == ('FPN', 256)
    assert model.rpn_head.anchor_generator.strides == [4, 8, 16, 32, 64]
    roi = model.roi_head
    assert roi.bbox_head.type == 'Shared4Conv1FCBBoxHead'
    assert roi.bbox_head.conv_out_channels == 256
    assert roi.bbox_head.fc_out_channels == 1024
    assert (roi.mask_head.num_convs, roi.mask_head.conv_out_channels) == (
        4,
        256,
    )
    for part in (model.neck, roi.bbox_head, roi.mask_head):
        assert part.norm_cfg.type == 'SyncBN'
    for part, size in (('bbox', 7), ('mask', 14)):
        layer = roi[f'{part}_roi_extractor'].roi_layer
        assert layer == dict(
            type='RoIAlign', output_size=size, sampling_ratio=0
        )
    assert model.train_cfg.rcnn.mask_size == 28


def check_c4(model):
    assert proposals(model) == (12000, 2000, 6000, 1000)
    assert 'neck' not in model
    assert (model.backbone.num_stages, model.backbone.strides) == (
        3,
        (1, 2, 2),
    )
    assert model.rpn_head.anchor_generator.strides == [16]
    assert model.rpn_head.feat_channels == 1024
    roi = model.roi_head
    head = roi.shared_head
    assert (head.type, head.depth, head.stage) == ('ResLayerExtraNorm', 50, 3)
    assert (head.stride, head.style) == (2, 'pytorch')
    assert head.norm_cfg.type == 'SyncBN'
    assert roi.bbox_roi_extractor.roi_layer == dict(
        type='RoIAlign', output_size=14, sampling_ratio=0
    )
    assert (roi.bbox_head.type, roi.bbox_head.with_avg_pool) == (
        'BBoxHead',
        True,
    )
    if 'mask_head' in roi:
        assert roi.mask_roi_extractor is None
        assert (roi.mask_head.num_convs, roi.mask_head.in_channels) == (
            0,
            2048,
        )
        assert model.train_cfg.rcnn.mask_size == 14


def test_voc_reads_both_years_and_tests_as_2007():
    cfg = load('detection', 'faster-rcnn_r50-c4_24k_voc0712')
    train, test = datasets(cfg)
    assert [d.ann_file for d in train] == [
        'VOC2007/ImageSets/Main/trainval.txt',
        'VOC2012/ImageSets/Main/trainval.txt',
    ]
    assert test.ann_file == 'VOC2007/ImageSets/Main/test.txt'
    metric = cfg.test_evaluator
    assert (metric.type, metric.eval_mode) == ('VOCMetric', '11points')
    expected = [0.5 + 0.05 * i for i in range(10)]
    assert metric.iou_thrs == pytest.approx(expected)


@pytest.mark.parametrize('name', [n for n in DETECTION if 'voc' not in n])
def test_boxes_and_masks_are_measured(name):
    metric = load('detection', name).test_evaluator
    assert (metric.type, metric.metric) == ('CocoMetric', ['bbox', 'segm'])


@pytest.mark.parametrize('name', SEGMENTATION)
def test_segmentation(name):
    cfg, wanted = load('segmentation', name), SEGMENTATION[name]
    check_common(cfg, wanted)
    assert cfg.optim_wrapper.optimizer == dict(
        type='SGD',
        lr=wanted['lr'],
        momentum=0.9,
        weight_decay=wanted['decay'],
    )
    assert 'paramwise_cfg' not in cfg.optim_wrapper
    (schedule,) = cfg.param_scheduler
    if wanted['steps']:
        expected = dict(
            type='MultiStepLR', milestones=wanted['steps'], gamma=0.1
        )
    else:
        expected = dict(
            type='PolyLR', power=0.9, eta_min=1e-4, end=wanted['length']
        )
    assert schedule == dict(expected, by_epoch=False)
    assert cfg.train_cfg.val_interval == wanted['every']
    assert not cfg.get('custom_hooks')

    train, test = datasets(cfg)
    crop = dict(type='RandomCrop', crop_size=wanted['crop'])
    expected = ['LoadImageFromFile', 'LoadAnnotations', 'RandomResize']
    expected += ['RandomCrop', 'RandomFlip']
    if wanted['kind'] != 'd6':
        crop['cat_max_ratio'] = 0.75
        expected.append('PhotoMetricDistortion')
    for dataset in train:
        assert dataset.type == wanted['data']
        steps = steps_of(dataset.pipeline)
        assert [*steps] == [*expected, 'PackSegInputs']
        resize = steps['RandomResize']
        assert resize.scale == wanted['scale']
        assert resize.ratio_range == (0.5, 2.0)
        assert resize.keep_ratio is True
        assert steps['RandomCrop'] == crop
        assert steps['RandomFlip'].prob == 0.5
    assert test.type == wanted['data']
    resize = steps_of(test.pipeline)['Resize']
    assert (resize.scale, resize.keep_ratio) == (wanted['scale'], True)
    assert cfg.test_evaluator == dict(type='IoUMetric', iou_metrics=['mIoU'])
    # ADE20K's class sets it by itself.
    if wanted['data'] != 'ADE20KDataset':
        for dataset in (*train, test):
            assert dataset.get('reduce_zero_label', False) is wanted['zero']

    model = cfg.model
    assert model.type == 'EncoderDecoder'
    assert model.data_preprocessor.size == wanted['crop']
    assert model.data_preprocessor.seg_pad_val == 255
    if wanted['stride']:
        assert model.test_cfg == dict(
            mode='slide', crop_size=wanted['crop'], stride=wanted['stride']
        )
    else:
        assert model.test_cfg == dict(mode='whole')
    heads = [model.decode_head]
    check = dict(d6=check_d6, d8=check_d8, deeplab=check_deeplab)
    check[wanted['kind']](model)
    if wanted['kind'] != 'd6':
        heads.append(model.auxiliary_head)
        assert model.auxiliary_head == dict(
            type='FCNHead',
            in_channels=1024,
            in_index=2,
            channels=256,
            num_convs=1,
            concat_input=False,
            dropout_ratio=0.1,
            num_classes=wanted['classes'],
            norm_cfg=dict(type='SyncBN', requires_grad=True),
            align_corners=False,
            loss_decode=dict(
                type='CrossEntropyLoss', use_sigmoid=False, loss_weight=0.4
            ),
        )
    for head in heads:
        assert head.num_classes == wanted['classes']
    assert model.decode_head.in_channels == 2048
    assert model.decode_head.in_index == 3
    assert model.decode_head.loss_decode == dict(
        type='CrossEntropyLoss', use_sigmoid=False
    )


def check_backbone(model, strides, dilations):
    assert model.backbone.strides == strides
    assert model.backbone.dilations == dilations
    assert model.backbone.contract_dilation is True


def check_d6(model):
    check_backbone(model, (1, 2, 2, 1), (1, 1, 1, 2))
    assert 'auxiliary_head' not in model
    head = model.decode_head
    assert (head.type, head.num_convs, head.channels) == ('FCNHead', 2, 256)
    assert (head.dilation, head.concat_input) == (6, False)
    assert (head.dropout_ratio, head.align_corners) == (0.0, True)


def check_d8(model):
    check_backbone(model, (1, 2, 1, 1), (1, 1, 2, 4))
    head = model.decode_head
    assert (head.type, head.num_convs, head.channels) == ('FCNHead', 2, 512)
    assert head.get('dilation', 1) == 1
    assert head.concat_input is True
    assert (head.dropout_ratio, head.align_corners) == (0.1, False)


def check_deeplab(model):
    check_backbone(model, (1, 2, 1, 1), (1, 1, 2, 4))
    head = model.decode_head
    assert (head.type, head.channels) == ('ASPPHead', 512)
    assert head.dilations == (1, 12, 24, 36)
    assert (head.dropout_ratio, head.align_corners) == (0.1, False)


def test_augmented_voc_reads_both_lists():
    cfg = load('segmentation', 'fcn-d6_r50-d16_30k_voc12aug')
    train, test = datasets(cfg)
    assert [(d.ann_file, d.data_prefix.seg_map_path) for d in train] == [
        ('ImageSets/Segmentation/train.txt', 'SegmentationClass'),
        ('ImageSets/Segmentation/aug.txt', 'SegmentationClassAug'),
    ]
    assert test.ann_file == 'ImageSets/Segmentation/val.txt'


def test_every_config_is_in_a_table():
    for task, table in (
        ('detection', DETECTION),
        ('segmentation', SEGMENTATION),
    ):
        names = {p.stem for p in (ROOT / f'configs/{task}').glob('*.py')}
        assert {n for n in names if 'demo' not in n} == set(table)
