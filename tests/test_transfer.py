"""A pre-training checkpoint starts detectors and segmentors, small ones."""

import math
from pathlib import Path

import pytest
import torch

from pixcon_mm.engine import PixConRunner
from pixcon_mm.errors import UserError
from tests import benchmarks
from tests.commands import scalars
from tests.recipes import load
from tests.test_engine.runs import log_of
from tests.test_models import tiny

HEADS = 16  # channels of every head


@pytest.fixture(scope='module')
def checkpoints(tmp_path_factory):
    """Full pre-training checkpoints, by width of the ResNet-18."""
    folder = tmp_path_factory.mktemp('pretrained')
    wide = dict(tiny.RESNET, stem_channels=64, base_channels=64)
    models = {8: tiny.build(), 64: tiny.build(backbone=wide, in_channels=512)}
    paths = {}
    for width, model in models.items():
        paths[width] = folder / f'{width}.pth'
        torch.save(dict(state_dict=model.state_dict()), paths[width])
    return paths


def small(name, folder, source, **options):
    """Load a recipe with a narrow ResNet-18 and write four images for it."""
    common = {
        'data_root': f'{folder}/data/',
        'work_dir': f'{folder}/work',
        'experiment_name': Path(folder).name,
        'model.backbone.depth': 18,
        'train_dataloader.batch_size': 2,
        'train_cfg.max_iters': 2,
        'train_cfg.val_interval': 2,
        'default_hooks.pretrained.source': str(source),
        'default_hooks.logger.interval': 1,
    }
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        common[f'{loader}.num_workers'] = 0
        common[f'{loader}.persistent_workers'] = False
    cfg = load(name, {**common, **options})
    benchmarks.write_data(cfg, f'{folder}/data')
    return cfg


# Few regions, and something that an untrained detector finds.
REGIONS = {
    'custom_hooks.0.num_batches': 2,
    'val_dataloader.dataset.pipeline.1.scale': (96, 64),
    'model.train_cfg.rpn_proposal.max_per_img': 20,
    'model.train_cfg.rcnn.sampler.num': 8,
    'model.test_cfg.rpn.max_per_img': 20,
    'model.test_cfg.rcnn.score_thr': 0.0,
    'model.rpn_head.feat_channels': HEADS,
}


def mask_rcnn_fpn(folder, source, **options):
    return small(
        'detection/mask-rcnn_r50-fpn_1x_coco',
        folder,
        source,
        **{
            **REGIONS,
            'train_dataloader.dataset.pipeline.2.scales': [(96, 64)],
            'model.backbone.base_channels': 8,
            'model.neck.in_channels': [8, 16, 32, 64],
            'model.neck.out_channels': HEADS,
            'model.rpn_head.in_channels': HEADS,
            'model.roi_head.bbox_roi_extractor.out_channels': HEADS,
            'model.roi_head.bbox_head.in_channels': HEADS,
            'model.roi_head.bbox_head.conv_out_channels': HEADS,
            'model.roi_head.bbox_head.fc_out_channels': HEADS,
            'model.roi_head.mask_roi_extractor.out_channels': HEADS,
            'model.roi_head.mask_head.in_channels': HEADS,
            'model.roi_head.mask_head.conv_out_channels': HEADS,
            **options,
        },
    )


def faster_rcnn_c4(folder, source, **options):
    cfg = small(
        'detection/faster-rcnn_r50-c4_24k_voc0712',
        folder,
        source,
        **{
            **REGIONS,
            'model.rpn_head.in_channels': 256,
            'model.roi_head.shared_head.depth': 18,
            'model.roi_head.bbox_roi_extractor.out_channels': 256,
            'model.roi_head.bbox_head.in_channels': 512,
            **options,
        },
    )
    for dataset in cfg.train_dataloader.dataset.datasets:
        dataset.pipeline[2].scales = [(96, 64)]
    return cfg


def fcn(folder, source, **options):
    return small(
        'segmentation/fcn_r50-d8_80k_ade20k',
        folder,
        source,
        **{
            'crop_size': (32, 32),
            'model.data_preprocessor.size': (32, 32),
            'train_dataloader.dataset.pipeline.2.scale': (96, 64),
            'val_dataloader.dataset.pipeline.1.scale': (96, 64),
            'model.backbone.base_channels': 8,
            'model.backbone.stem_channels': 8,
            'model.decode_head.in_channels': 64,
            'model.decode_head.channels': HEADS,
            'model.auxiliary_head.in_channels': 32,
            'model.auxiliary_head.channels': HEADS,
            **options,
        },
    )


CASES = {
    'mask-rcnn-fpn': (mask_rcnn_fpn, 8, {'coco/bbox_mAP', 'coco/segm_mAP'}),
    'faster-rcnn-c4': (
        faster_rcnn_c4,
        64,
        {'pascal_voc/mAP', 'pascal_voc/AP50', 'pascal_voc/AP75'},
    ),
    'fcn': (fcn, 8, {'mIoU', 'aAcc', 'mAcc'}),
}


def run(cfg):
    runner = PixConRunner.from_cfg(cfg)
    runner.train()
    return runner


# A stage of C4's width in the head takes five seconds.
@pytest.mark.parametrize(
    'case',
    [
        'mask-rcnn-fpn',
        pytest.param('faster-rcnn-c4', marks=pytest.mark.slow),
        'fcn',
    ],
)
def test_trains_and_evaluates_from_a_pretraining_checkpoint(
    case, tmp_path, checkpoints
):
    make, width, metrics = CASES[case]
    source = checkpoints[width]
    cfg = make(tmp_path, source, **{'optim_wrapper.optimizer.lr': 0.0})
    # MMSegmentation's would raise the rate to its least.
    cfg.param_scheduler = []
    runner = run(cfg)
    line = f'backbone: 120/120 tensors from {source} (sha256 '
    assert log_of(runner).count(line) == 1
    logged = scalars(tmp_path / 'work')
    losses = [line['loss'] for line in logged if 'loss' in line]
    assert len(losses) == 2
    assert all(math.isfinite(loss) and loss > 0 for loss in losses)
    (result,) = [line for line in logged if metrics <= line.keys()]
    assert all(math.isfinite(result[name]) for name in metrics)

    # Without a rate, the weights are those of the file to the end.
    pretrained = torch.load(source)['state_dict']
    trained = dict(runner.model.backbone.named_parameters())
    shared_head = getattr(
        getattr(runner.model, 'roi_head', None), 'shared_head', None
    )
    if shared_head is not None:
        trained.update(shared_head.named_parameters())
        assert {'norm.weight', 'norm.bias'} <= trained.keys()
        del trained['norm.weight'], trained['norm.bias']
    assert len(trained) == 60
    for name, weight in trained.items():
        assert torch.equal(weight, pretrained[f'backbone.{name}']), name


@pytest.mark.parametrize('case', CASES)
def test_a_step_moves_every_weight(case, tmp_path, checkpoints):
    """Nothing is frozen and every batch norm is trained."""
    make, width, _ = CASES[case]
    cfg = make(tmp_path, checkpoints[width], **{'train_cfg.max_iters': 1})
    cfg.param_scheduler = []
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    runner = run(cfg)
    pretrained = torch.load(checkpoints[width])['state_dict']
    for name, weight in runner.model.backbone.named_parameters():
        assert not torch.equal(weight, pretrained[f'backbone.{name}']), name
    for name, buffer in runner.model.backbone.named_buffers():
        assert not torch.equal(buffer, pretrained[f'backbone.{name}']), name


def test_a_run_without_a_source_stops(tmp_path):
    cfg = fcn(tmp_path, 'none')
    del cfg.default_hooks.pretrained['source']
    with pytest.raises(UserError, match='fine-tunes: .*--pretrain'):
        run(cfg)


def test_resumed_run_keeps_its_weights(tmp_path, checkpoints):
    run(fcn(tmp_path, checkpoints[8]))
    options = dict(resume=True, experiment_name='resumed')
    with pytest.raises(UserError, match='has started from other weights'):
        run(fcn(tmp_path, 'none', **options))
    cfg = fcn(tmp_path, checkpoints[8], **options)
    cfg.train_cfg.max_iters = 3
    assert run(cfg).iter == 3
    logs = [path.read_text() for path in tmp_path.glob('work/*/*.log')]
    assert sum('backbone: weights of the checkpoint' in t for t in logs) == 1
