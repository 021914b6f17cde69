"""The small study's plan and the demo's: complete, paired, of one backbone."""

import pytest

from pixcon_mm.config import load_config
from pixcon_mm.tools.evaluate_dense import parse_args
from reproduction.frozen import arguments
from reproduction.plan import read_plan
from reproduction.runs import runs_of
from tests import ROOT

PLAN = read_plan(ROOT / 'plans/small.yaml')
RUNS = list(runs_of(PLAN).values())
DEMO = list(runs_of(read_plan(ROOT / 'plans/demo.yaml')).values())
CONFIGS = sorted({run.config for run in RUNS + DEMO})


@pytest.mark.parametrize('runs', [RUNS, DEMO], ids=['study', 'demo'])
def test_every_number_has_its_pair_of_random_weights(runs):
    """The same benchmark and seed, for each method and pre-training."""
    places = {}
    for run in runs:
        if run.kind != 'pretrain':
            place = (run.kind, run.benchmark, run.seed)
            places.setdefault(run.method, set()).add(place)
            if run.method != 'random':
                assert run.pretraining.seed == run.seed
    random = places.pop('random')
    assert all(places)
    assert {*random} == {*places['pixcon-sr']}
    assert all(found <= random for found in places.values())


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
GPU = read_plan(ROOT / 'plans/small_gpu.yaml')


def test_ablations_are_evaluated_as_the_study():
    for name, benchmark in ABLATIONS.benchmarks.items():
        assert benchmark == PLAN.benchmarks[name]
    assert ABLATIONS.data.items() <= PLAN.data.items()
    assert ABLATIONS.pretrain_sets == PLAN.pretrain_sets


def test_the_plan_for_a_gpu_has_the_same_runs_and_data():
    assert [*runs_of(GPU)] == [run.name for run in RUNS]
    assert (GPU.data, GPU.pretrain_sets) == (PLAN.data, PLAN.pretrain_sets)
    assert GPU.tables == PLAN.tables
    for name, benchmark in GPU.benchmarks.items():
        ours = PLAN.benchmarks[name]
        assert benchmark.metrics == ours.metrics
        assert benchmark.labels == ours.labels
        if ours.evaluate is not None:
            assert benchmark.evaluate == {**ours.evaluate, 'stride': 16}
