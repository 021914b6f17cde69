"""The small study's plans: one data set, the same classes and evaluations."""

from pixcon_mm.config import load_config
from pixcon_mm.tools.evaluate_dense import parse_args
from reproduction.frozen import arguments
from reproduction.plan import read_plan
from reproduction.runs import runs_of
from tests import ROOT

PLAN = read_plan(ROOT / 'plans/small.yaml')


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
    assert [*runs_of(GPU)] == [*runs_of(PLAN)]
    assert (GPU.data, GPU.pretrain_sets) == (PLAN.data, PLAN.pretrain_sets)
    assert GPU.tables == PLAN.tables
    for name, benchmark in GPU.benchmarks.items():
        ours = PLAN.benchmarks[name]
        assert benchmark.metrics == ours.metrics
        assert benchmark.labels == ours.labels
        if ours.evaluate is not None:
            assert benchmark.evaluate == {**ours.evaluate, 'stride': 16}
