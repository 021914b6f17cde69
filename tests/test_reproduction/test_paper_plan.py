"""The paper's plan: its data can move, its batches and metrics are real."""

from pathlib import Path

import pytest
from torch.utils._pytree import tree_leaves

from pixcon_mm.classes import datasets
from pixcon_mm.config import load_config
from pixcon_mm.data_paths import parts
from reproduction.plan import read_plan
from reproduction.runs import backbone_name, runs_of, select
from tests import ROOT
from tests.test_transfer import CASES

FILE = ROOT / 'plans/paper.yaml'
PLAN = read_plan(FILE)
# The same plan with all data elsewhere.
MOVED = PLAN.model_copy(
    update=dict(
        data={
            name: data.model_copy(update={'root': f'/moved/{data.root[5:]}/'})
            for name, data in PLAN.data.items()
        }
    )
)
RUNS = list(runs_of(PLAN).values())
PRETRAINED = {
    backbone_name(run.method, run.pretrain_set): run
    for run in select(RUNS, kind='pretrain')
}
BENCHMARKS = {
    run.benchmark: run
    for run in select(RUNS, kind='finetune', method='random', seed=0)
}
ALL = {**PRETRAINED, **BENCHMARKS}


def load(run, plan=PLAN):
    return load_config(run.config, plan.with_roots(run.options))


def datasets_with_root(cfg):
    """List the data sets that read files of their own."""
    return [leaf for _, leaf in datasets(cfg) if 'data_root' in leaf]


@pytest.mark.parametrize('name', ALL)
def test_data_can_move(name):
    cfg = load(ALL[name], MOVED)
    values = tree_leaves(cfg.to_dict())
    words = [value for value in values if isinstance(value, str)]
    assert not [word for word in words if word.startswith('data/')]
    moved = [word for word in words if word.startswith('/moved/')]
    roots = len(datasets_with_root(cfg))
    # Beside the data sets', the config's own.
    assert len(moved) >= roots + 1
    assert not [word for word in moved if '{' in word or '//' in word]


@pytest.mark.parametrize('name', ALL)
def test_gpus_make_the_batch_that_the_recipe_is_for(name):
    run = ALL[name]
    cfg = load(run)
    total = run.gpus * cfg.train_dataloader.batch_size
    assert total == cfg.auto_scale_lr.base_batch_size
    if run.kind == 'pretrain':
        assert cfg.train_cfg.max_epochs == 800


@pytest.mark.parametrize('name', ALL)
def test_what_configs_read_is_checked_for(name):
    cfg = load(ALL[name])
    patterns = [
        Path(PLAN.data[data].root, pattern)
        for data in ALL[name].data
        for pattern in PLAN.data[data].files
    ]
    for dataset in datasets_with_root(cfg):
        roots = dataset.data_root
        for root in roots if isinstance(roots, list) else [roots]:
            for part in parts(dataset) or ['']:
                path = Path(root, part)
                assert any(path in (p, *p.parents) for p in patterns), path


def test_metrics_are_those_that_real_runs_give():
    known = {name for *_, names in CASES.values() for name in names}
    for benchmark in PLAN.benchmarks.values():
        assert {*benchmark.metrics} <= known
        for name, metric in benchmark.metrics.items():
            # MMSegmentation gives percent, MMDetection shares of 1.
            assert metric.scale == (1 if name == 'mIoU' else 100)
