"""The paper's plan: every option takes effect, every name is a real one."""

import dataclasses
import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
import torch
from mmdet.evaluation import CocoMetric, VOCMetric
from mmengine.structures import InstanceData

from pixcon_mm.config import load_config
from pixcon_mm.data_paths import LOADERS, leaves, parts
from reproduction.plan_file import read_plan
from reproduction.published import find, others, read_published
from reproduction.runs import runs_of, starts, with_roots
from tests import toy

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / 'plans/paper.yaml'
PLAN = read_plan(FILE)
NUMBERS = read_published(ROOT / PLAN.published)
# The same plan with all data elsewhere.
MOVED = dataclasses.replace(
    PLAN,
    data={
        name: dataclasses.replace(data, root=f'/moved/{data.root[5:]}/')
        for name, data in PLAN.data.items()
    },
)
RUNS = runs_of(PLAN)
PRETRAINED = {
    name.split('/')[1].removesuffix('-seed0'): run
    for name, run in RUNS.items()
    if run.kind == 'pretrain'
}
BENCHMARKS = {
    name: next(
        r for n, r in RUNS.items() if n.startswith(f'finetune/{name}/random')
    )
    for name in PLAN.benchmarks
}
ALL = {**PRETRAINED, **BENCHMARKS}
COCO = 'data/coco/train2017'
# What differs from the main recipe. The data's root may lose its slash.
HEAD = 'model.head.'
CHANGES = {
    'pixcon-sr-coco': {},
    'pixcon-sr-coco-plus': {
        key: [COCO, 'data/coco/unlabeled2017']
        for key in ('data_root', 'train_dataloader.dataset.data_root')
    },
    'mocov2plus-coco': {'model.loss_lambda': 0},
    'pixcon-sim-coco': {HEAD + 'reweight': None},
    'pixcon-coord-coco': {
        HEAD + 'reweight': None,
        HEAD + 'matching': 'coordinate',
    },
    'pixcon-coord-reweighted-coco': {HEAD + 'matching': 'coordinate'},
    'pixcon-sr-no-mask-coco': {HEAD + 'reweight.use_mask': False},
    'pixcon-sr-power1-coco': {HEAD + 'reweight.power': 1},
    'pixcon-sr-power4-coco': {HEAD + 'reweight.power': 4},
    'pixcon-sr-lambda0.25-coco': {'model.loss_lambda': 0.25},
    'pixcon-sr-lambda0.75-coco': {'model.loss_lambda': 0.75},
    'pixcon-sr-lambda1-coco': {'model.loss_lambda': 1},
}


@pytest.fixture(autouse=True)
def _framework_state(monkeypatch):
    monkeypatch.chdir(ROOT)
    with toy.framework_state():
        yield


def load(run, plan=PLAN):
    return load_config(run.config, with_roots(plan, run.options))


def flat(node, path=''):
    """Leaves by dotted key; a list of words is a leaf."""
    items = None
    if isinstance(node, dict):
        items = node.items()
    elif isinstance(node, list | tuple) and any(
        not isinstance(child, str) for child in node
    ):
        items = enumerate(node)
    if items is None or not node:
        return {path[1:]: node}
    return {
        key: leaf
        for name, child in items
        for key, leaf in flat(child, f'{path}.{name}').items()
    }


def no_slash(leaf):
    if isinstance(leaf, list):
        return [word.rstrip('/') for word in leaf]
    return leaf.rstrip('/') if isinstance(leaf, str) else leaf


def test_the_head_of_the_file_counts_its_runs():
    kinds = [run.kind for run in RUNS.values()]
    text = FILE.read_text()
    assert f'# {kinds.count("pretrain")} pre-trainings of 800 epochs' in text
    assert f'{kinds.count("finetune")} fine-tunings with a' in text
    assert kinds.count('test') == kinds.count('finetune') == 177


def test_tables_share_runs():
    assert len(PRETRAINED) == 14
    rows = {t: [s.name for s in starts(PLAN, t)] for t in PLAN.tables}
    assert len(rows['main']) == 9
    assert 'pixcon-sr-coco' in rows['main']
    assert 'pixcon-sr-coco' in rows['matching']
    assert 'pixcon-sr-coco' in rows['reweighting']
    assert 'pixcon-sr-coco' in rows['lambda']


def test_every_definition_is_used():
    rows = [r for table in PLAN.tables.values() for r in table.rows]
    assert {m for r in rows for m in r.methods} == {*PLAN.methods}
    assert {s for r in rows for s in r.sets} == {*PLAN.pretrain_sets}
    used = {b for table in PLAN.tables.values() for b in table.benchmarks}
    assert used == {*PLAN.benchmarks}
    assert {d for run in RUNS.values() for d in run.data} == {*PLAN.data}


@pytest.mark.parametrize('name', CHANGES)
def test_a_variant_differs_where_it_should_and_nowhere_else(name):
    base = flat(load_config('configs/pretrain/pixcon_r50_coco.py').to_dict())
    here = flat(load(PRETRAINED[name]).to_dict())
    absent = object()
    changed = {
        key: leaf
        for key, leaf in here.items()
        if no_slash(base.get(key, absent)) != no_slash(leaf)
    }
    assert {k: no_slash(v) for k, v in changed.items()} == CHANGES[name]
    gone = {key for key in base if key not in here}
    off = CHANGES[name].get(HEAD + 'reweight', absent) is None
    assert gone == (
        {HEAD + 'reweight.power', HEAD + 'reweight.use_mask'} if off else set()
    )


def test_the_rest_are_the_baselines():
    rest = {*PRETRAINED} - {*CHANGES}
    types = {name: load(PRETRAINED[name]).model.type for name in rest}
    assert types == {'byol-coco': 'BYOL', 'densecl-coco': 'DenseCL'}


@pytest.mark.parametrize('name', ALL)
def test_data_can_move(name):
    cfg = load(ALL[name], MOVED)
    words = [
        word
        for leaf in flat(cfg.to_dict()).values()
        for word in (leaf if isinstance(leaf, list | tuple) else [leaf])
        if isinstance(word, str)
    ]
    assert not [word for word in words if word.startswith('data/')]
    moved = [word for word in words if word.startswith('/moved/')]
    loaders = [cfg[name].dataset for name in LOADERS if name in cfg]
    roots = sum(len([*leaves(dataset)]) for dataset in loaders)
    # Beside the data sets', the config's own.
    assert len(moved) >= roots + 1
    assert not [word for word in moved if '{' in word or '//' in word]


@pytest.mark.parametrize('name', ALL)
def test_gpus_make_the_batch_that_the_recipe_is_for(name):
    run = ALL[name]
    cfg = load(run)
    total = run.gpus * cfg.train_dataloader.batch_size
    assert total == cfg.auto_scale_lr.base_batch_size
    assert f'{run.gpus} GPUs x' in (ROOT / run.config).read_text()


@pytest.mark.parametrize('name', PRETRAINED)
def test_pre_trainings_are_of_one_length(name):
    assert load(PRETRAINED[name]).train_cfg.max_epochs == 800


@pytest.mark.parametrize('name', ALL)
def test_what_configs_read_is_checked_for(name):
    cfg = load(ALL[name])
    patterns = [
        Path(PLAN.data[data].root, pattern)
        for data in ALL[name].data
        for pattern in PLAN.data[data].files
    ]
    datasets = [
        dataset
        for loader in LOADERS
        if loader in cfg
        for dataset in leaves(cfg[loader].dataset)
    ]
    for dataset in datasets:
        roots = dataset.data_root
        for root in roots if isinstance(roots, list) else [roots]:
            for part in parts(dataset) or ['']:
                path = Path(root, part)
                assert any(path in (p, *p.parents) for p in patterns), path


@pytest.mark.parametrize(
    ('data', 'file'),
    [
        ('coco', 'train2017/000000000009.jpg'),
        ('coco-unlabeled', 'unlabeled2017/000000000008.jpg'),
        ('voc', 'VOC2007/JPEGImages/000001.jpg'),
        ('voc12aug', 'VOC2012/SegmentationClassAug/2008_000002.png'),
        (
            'cityscapes',
            'leftImg8bit/train/aachen/aachen_000000_000019_leftImg8bit.png',
        ),
        (
            'cityscapes',
            'gtFine/val/lindau/lindau_000000_000019_gtFine_labelTrainIds.png',
        ),
        ('ade20k', 'images/training/ADE_train_00000001.jpg'),
    ],
)
def test_names_as_they_are_fit_one_pattern(data, file):
    fits = [p for p in PLAN.data[data].files if fnmatchcase(file, p)]
    assert len(fits) == 1


def test_numbers_of_images():
    def images(name):
        sets = PLAN.pretrain_sets[name].data
        return sum(n for d in sets for n in PLAN.data[d].files.values())

    assert images('coco') == 118287
    assert images('coco-plus') == 241690


def test_one_root_for_a_data_set():
    """A user changes one line, whichever run reads it."""
    lines = re.findall(r'^    root: (.+)$', FILE.read_text(), re.M)
    assert len([line for line in lines if not line.startswith('*')]) == 4
    assert len({data.root for data in PLAN.data.values()}) == 4


def voc_names(evaluator):
    """What VOC's evaluator calls its metrics, from one image."""
    boxes = torch.tensor([[0.0, 0.0, 9.0, 9.0]])
    truth = InstanceData(bboxes=boxes, labels=torch.tensor([0]))
    evaluator = {**evaluator}
    evaluator.pop('type')
    metric = VOCMetric(**evaluator)
    metric.dataset_meta = dict(classes=('a',), dataset_type='VOC2007')
    metric.process(
        {},
        [
            dict(
                gt_instances=truth,
                ignored_instances=truth[:0],
                pred_instances=InstanceData(
                    **truth, scores=torch.tensor([1.0])
                ),
            )
        ],
    )
    return metric.evaluate(1)


def test_vocs_metrics_are_the_evaluators():
    cfg = load(BENCHMARKS['voc0712'])
    names = voc_names(cfg.test_evaluator)
    wanted = PLAN.benchmarks['voc0712'].metrics
    assert {*wanted} <= {*names}
    # Shares of 1.
    assert {names[name] * wanted[name].scale for name in wanted} == {100.0}


def test_the_other_metrics_are_the_evaluators():
    cfg = load(BENCHMARKS['coco'])
    assert cfg.test_evaluator.type == 'CocoMetric'
    assert {*PLAN.benchmarks['coco'].metrics} == {
        f'{CocoMetric.default_prefix}/{kind}_mAP'
        for kind in cfg.test_evaluator.metric
    }
    for name in ('cityscapes', 'voc12aug', 'ade20k'):
        cfg = load(BENCHMARKS[name])
        assert cfg.test_evaluator.type == 'IoUMetric'
        metrics = PLAN.benchmarks[name].metrics
        assert [*metrics] == cfg.test_evaluator.iou_metrics == ['mIoU']
        # In percent.
        assert metrics['mIoU'].scale == 1


def cells(start):
    """Published numbers of a row, by benchmark and metric."""
    method = PLAN.methods[start.method]
    row = (method.title, method.pretrain_data, method.epochs)
    if start.set is not None:
        row = (method.title, PLAN.pretrain_sets[start.set].title, 800)
    return {
        (name, metric.published): find(
            NUMBERS, b.published, b.protocol, *row, metric.published
        )
        for name, b in PLAN.benchmarks.items()
        for metric in b.metrics.values()
    }


def test_pixcon_has_a_place_for_each_number_of_the_main_table():
    rows = [s for s in starts(PLAN, 'main') if s.method.startswith('pixcon')]
    assert len(rows) == 4
    for start in rows:
        found = cells(start)
        assert len(found) == 8
        assert all(len(numbers) == 1 for numbers in found.values())


def test_the_baselines_published_numbers():
    found = {
        start.name: {
            key: [number.value for number in numbers]
            for key, numbers in cells(start).items()
            if numbers
        }
        for start in starts(PLAN, 'main')
        if not start.method.startswith('pixcon')
    }
    voc = {('voc0712', m) for m in ('AP', 'AP50', 'AP75')}
    fpn = {('coco', m) for m in ('bbox_mAP', 'segm_mAP')}
    assert {name: {*row} for name, row in found.items()} == {
        'random': voc,
        'supervised': {*voc, *fpn},
        'mocov2plus-coco': set(),  # MoCo-v2 is another method
        'byol-coco': fpn,
        'densecl-coco': {*fpn, ('voc0712', 'AP')},
    }
    assert found['densecl-coco']['voc0712', 'AP'] == [56.7]
    assert found['supervised']['voc0712', 'AP50'] == [81.0]


def test_numbers_of_another_protocol_stay_out():
    b = PLAN.benchmarks['voc12aug']
    assert b.published == 'voc12aug_seg'
    assert others(NUMBERS, b.published, b.protocol, []) == []
