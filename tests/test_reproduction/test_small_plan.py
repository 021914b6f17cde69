"""The small study's plan and the demo's: complete, paired, of one backbone."""

import pytest

from pixcon_mm.config import load_config
from pixcon_mm.tools.evaluate_dense import parse_args
from reproduction.frozen import arguments
from reproduction.plan import read_plan
from reproduction.runs import runs_of, select, settings_of
from tests import ROOT

PLAN = read_plan(ROOT / 'plans/small.yaml')
RUNS = list(runs_of(PLAN).values())
DEMO = list(runs_of(read_plan(ROOT / 'plans/demo.yaml')).values())
CONFIGS = sorted({run.config for run in RUNS + DEMO})


def test_the_demo_compares_pairs_of_seeds():
    for run in select(DEMO, method='pixcon-sr'):
        assert run.pretraining.seed == run.seed
    names = {
        method: [
            run.name.replace(f'{name}-seed', 'seed')
            for run in select(DEMO, method=method)
            if run.kind != 'pretrain'
        ]
        for method, name in (
            ('random', 'random'),
            ('pixcon-sr', 'pixcon-sr-demo'),
        )
    }
    assert names['random'] == names['pixcon-sr']
    assert len(names['random']) == 2 * (1 + 2 + 2)


def test_runs_are_paired():
    kinds = {kind: select(RUNS, kind=kind) for kind in {r.kind for r in RUNS}}
    counts = {kind: len(runs) for kind, runs in kinds.items()}
    # 5 methods, 6 with random weights; 4 and 5 benchmarks; 2 seeds.
    expected = dict(pretrain=10, evaluate=48, finetune=60, test=60)
    assert counts == expected
    for run in kinds['evaluate'] + kinds['finetune']:
        if run.method != 'random':
            assert run.pretraining.seed == run.seed
    labels = {run.labels for run in kinds['finetune'] if 'fcn' in run.name}
    assert labels == {0.05, 0.1, 0.25, None}


@pytest.mark.parametrize('padding', ['zeros', 'reflect'])
@pytest.mark.parametrize('config', CONFIGS)
def test_one_variable_sets_the_padding_of_every_network(config, padding):
    cfg = load_config(str(ROOT / config), dict(padding_mode=padding))
    backbone = cfg.model.backbone
    assert backbone.conv_cfg == dict(type='Conv2d', padding_mode=padding)
    assert (backbone.depth, backbone.base_channels) == (18, 32)
    if 'detection' not in config:  # whose pyramid has a stride of 32
        assert backbone.strides == (1, 2, 2, 1)
        assert backbone.dilations == (1, 1, 1, 2)
        assert not backbone.get('contract_dilation')


def test_classes_are_those_of_the_finetuning():
    segmentation = PLAN.benchmarks['fcn-100'].config
    classes = load_config(str(ROOT / segmentation)).classes
    for name in ('voc-knn', 'voc-linear'):
        options = arguments(PLAN.benchmarks[name].evaluate)
        args = parse_args(['x', '--pretrained', 'none', *options])
        assert tuple(args.classes) == tuple(classes)
    detection = load_config(str(ROOT / PLAN.benchmarks['detection'].config))
    assert tuple(detection.classes) == tuple(classes)[1:]


ABLATIONS = read_plan(ROOT / 'plans/small_ablations.yaml')
HEAD = 'model.head.'
# How the settings of a pre-training differ from PixCon-SR's. Without weights
# both of their settings are gone.
UNWEIGHTED = {
    HEAD + 'reweight': None,
    HEAD + 'reweight.power': ...,
    HEAD + 'reweight.use_mask': ...,
}
CHANGES = {
    'mocov2plus': {'model.loss_lambda': 0},
    'pixcon-sim': UNWEIGHTED,
    'pixcon-coord': {**UNWEIGHTED, HEAD + 'matching': 'coordinate'},
    'pixcon-coord-weights': {HEAD + 'matching': 'coordinate'},
    'power1': {HEAD + 'reweight.power': 1},
    'power4': {HEAD + 'reweight.power': 4},
    'no-mask': {HEAD + 'reweight.use_mask': False},
    'mask-floor': {HEAD + 'mask_rule': 'floor'},
    'lambda0.3': {'model.loss_lambda': 0.3},
    'lambda0.7': {'model.loss_lambda': 0.7},
    'lambda1': {'model.loss_lambda': 1.0},
}


def test_an_ablation_changes_one_thing(monkeypatch):
    monkeypatch.chdir(ROOT)
    pretrains = {
        run.method: settings_of(run)
        for run in select(runs_of(ABLATIONS).values(), kind='pretrain')
    }
    base = pretrains.pop('pixcon-sr')
    changes = {
        method: {
            key: own.get(key, ...)
            for key in {*base, *own}
            if own.get(key, ...) != base.get(key, ...)
        }
        for method, own in pretrains.items()
    }
    assert changes == CHANGES
    full = select(RUNS, kind='pretrain', method='pixcon-sr', seed=0)
    schedule = {'train_cfg.max_epochs', 'param_scheduler.1.end'}
    longer = settings_of(full[0])
    assert {k for k in {*base, *longer} if base.get(k) != longer.get(k)} == {
        *schedule,
        'param_scheduler.1.T_max',
    }


def test_ablations_are_evaluated_as_the_study():
    for name, benchmark in ABLATIONS.benchmarks.items():
        assert benchmark == PLAN.benchmarks[name]
    assert ABLATIONS.data.items() <= PLAN.data.items()
    assert ABLATIONS.pretrain_sets == PLAN.pretrain_sets


GPU = read_plan(ROOT / 'plans/small_gpu.yaml')
GPU_RUNS = list(runs_of(GPU).values())


def test_the_plan_for_a_gpu_has_the_same_runs_and_data():
    assert [run.name for run in GPU_RUNS] == [run.name for run in RUNS]
    assert (GPU.data, GPU.pretrain_sets) == (PLAN.data, PLAN.pretrain_sets)
    assert GPU.tables == PLAN.tables
    for name, benchmark in GPU.benchmarks.items():
        ours = PLAN.benchmarks[name]
        assert benchmark.metrics == ours.metrics
        assert benchmark.labels == ours.labels
        if ours.evaluate is not None:
            assert benchmark.evaluate == {**ours.evaluate, 'stride': 16}


@pytest.mark.parametrize('benchmark', [None, 'fcn-5', 'fcn-100', 'detection'])
def test_networks_for_a_gpu_are_one_resnet_50(benchmark):
    for run in select(GPU_RUNS, benchmark=benchmark, seed=0):
        if run.kind not in ('pretrain', 'finetune'):
            continue
        cfg = load_config(run.config, GPU.with_roots(run.options))
        backbone = cfg.model.backbone
        assert backbone.depth == 50
        assert backbone.get('base_channels', 64) == 64
        assert backbone.get('stem_channels', 64) == 64
        padding = (backbone.get('conv_cfg') or {}).get('padding_mode', 'zeros')
        assert padding == 'zeros'
        batch = cfg.train_dataloader.batch_size
        assert cfg.auto_scale_lr.base_batch_size == batch
        if run.kind == 'pretrain':
            assert (batch, cfg.model.queue_len) == (256, 1024)
            assert cfg.train_cfg.max_epochs == 200
            (warmup, cosine) = cfg.param_scheduler
            assert warmup.end < cosine.end == cosine.T_max == 200
        elif benchmark == 'detection':
            assert cfg.train_cfg.max_epochs == 6
            assert cfg.param_scheduler[1].milestones == [4]
        else:
            crop = cfg.train_dataloader.dataset.pipeline[3]
            assert tuple(crop.crop_size) == (224, 224)
            assert cfg.train_cfg.max_iters == cfg.param_scheduler[0].end
        if benchmark:
            classes = cfg.train_dataloader.dataset.metainfo.classes
            small = load_config(str(ROOT / PLAN.benchmarks[benchmark].config))
            assert tuple(classes) == tuple(small.classes)
