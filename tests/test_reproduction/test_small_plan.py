"""The small study's plan and the demo's: complete, paired, of one backbone."""

import pytest

from pixcon_mm.config import load_config
from pixcon_mm.tools.evaluate_dense import parse_args
from reproduction.frozen import arguments
from reproduction.plan import read_plan
from reproduction.runs import runs_of, select
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
