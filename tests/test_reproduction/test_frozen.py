"""Evaluations of frozen features, and label budgets, as columns of a plan."""

import csv
import dataclasses

import pytest

from pixcon_mm.errors import UserError
from pixcon_mm.tools.evaluate_dense import parse_args
from reproduction import cli, commands
from reproduction.execute import Selection, execute
from reproduction.labels import draw, list_file, write_list
from reproduction.launch import build_command, write_metrics
from reproduction.plan import read_plan
from reproduction.runs import settings_of
from reproduction.status import PlanStatus, State
from tests.test_reproduction.conftest import (
    ONE_SEED,
    own,
    plan_dict,
    segmentation,
    status_of,
    write_plan,
)

OURS = 'evaluate/knn/sr-toy-seed0'
FINETUNED = 'finetune/seg/sr-toy-seed0'
CONFIG = 'configs/pretrain/pixcon_r18_demo.py'


def knn(**options):
    evaluate = dict(protocols='knn', data='{toy}', size=[64, 96])
    return dict(
        title='Nearest neighbours',
        protocol='k 30',
        config=CONFIG,
        data=['toy'],
        evaluate={**evaluate, **options},
        metrics=dict(
            dense_knn=dict(title='mIoU'),
            correspondence=dict(title='recall', scale=100),
        ),
    )


def plan_with(folder, benchmark, **changes):
    """Return changes of the plan: one benchmark of frozen features."""
    tables = plan_dict(folder)['tables']
    tables['main']['benchmarks'] = ['knn']
    return dict(benchmarks=dict(knn=benchmark), tables=tables, **changes)


def complete(status):
    return execute(status, Selection(), print)


def test_the_tool_gets_the_options_of_the_plan(tmp_path):
    options = dict(k=5, classes=['cat', 'dog'], train_split='trainaug')
    status = status_of(tmp_path, **plan_with(tmp_path, knn(**options)))
    for processes in (None, 0, 2):
        _, tool, *words = build_command(
            status, status.runs['evaluate/knn/random-seed1'], processes
        )
        assert tool == 'tools/evaluate_dense.py'
        args = parse_args(words)
        assert (args.arch, args.pretrained, args.seed) == (CONFIG, 'none', 1)
        assert (args.protocols, args.size) == (['knn'], [64, 96])
        assert (args.k, args.classes) == (5, ['cat', 'dog'])
        assert args.train_split == 'trainaug'
        assert args.data == tmp_path / 'data'
        folder = tmp_path / 'runs/evaluate/knn/random-seed1'
        assert args.out == folder / 'dense.json'


def test_from_nothing_to_the_table(tmp_path, fake_tools):
    plan = write_plan(tmp_path, **plan_with(tmp_path, knn()))
    assert complete(PlanStatus(read_plan(plan)))
    assert set(fake_tools().values()) == {1}
    commands.call(cli.parse_args(['table', str(plan)]))
    lines = [*csv.DictReader((tmp_path / 'runs/table.csv').open())]
    found = {(line['method'], line['metric']): line for line in lines}
    assert float(found['Random', 'mIoU']['mean']) == 10.5
    ours = found['PixCon-SR', 'mIoU']
    assert float(ours['mean']) == 15.5
    assert float(ours['std']) == pytest.approx(0.5**0.5, abs=1e-3)
    assert ours['n'] == '2'
    assert float(found['PixCon-SR', 'recall']['mean']) == 25
    status = PlanStatus(read_plan(plan))
    metrics = own(status, OURS).metrics['metrics']
    assert metrics['knn.shares.1/8.miou'] == 9
    assert metrics['knn.shares.1/1.iou.cat'] == 3.5
    assert (tmp_path / 'runs' / OURS / 'dense.json').exists()


def test_another_backbone_than_the_pretrainings_is_named(tmp_path):
    """Its tensors fit, and would give other features without a word."""

    def sentences(options):
        methods = plan_dict(tmp_path)['methods']
        methods['sr']['options'] = options
        changes = plan_with(tmp_path, knn(), methods=methods)
        found = commands.problems(status_of(tmp_path, **changes))
        return [s for s in found if 'not the pre-training' in s]

    assert sentences({'model.backbone.norm_cfg.type': 'BN'}) == []
    (sentence,) = sentences({'model.backbone.conv_cfg.padding_mode': 'zeros'})
    assert OURS in sentence
    assert "conv_cfg.padding_mode was 'zeros', is 'reflect'" in sentence


def test_what_makes_an_evaluation_stale(tmp_path, fake_tools):
    assert complete(
        status_of(tmp_path, **plan_with(tmp_path, knn(), **ONE_SEED))
    )

    def state(benchmark, **changes):
        changes = plan_with(tmp_path, benchmark, **ONE_SEED, **changes)
        status = status_of(tmp_path, **changes)
        return own(status, OURS)

    assert state(knn(workers=0, device='cpu')).state is State.COMPLETE
    stale = state(knn(k=7))
    assert stale.state is State.STALE
    assert stale.why == 'evaluate.k was not set, is 7'
    methods = plan_dict(tmp_path)['methods']
    methods['sr']['options'] = {'train_cfg.max_epochs': 3}
    assert state(knn(), methods=methods).state is State.STALE
    other = dict(knn(), config='configs/pretrain/pixcon_r18_100e_coco.py')
    stale = state(other)
    assert stale.state is State.STALE
    assert 'model.backbone' in stale.why
    # Another checkpoint.
    (checkpoint,) = (tmp_path / 'runs/pretrain/sr-toy-seed0').glob('*3.pth')
    checkpoint.write_text('other weights')
    assert state(knn()).state is State.STALE


def test_a_report_of_another_checkpoint_is_refused(tmp_path, fake_tools):
    """A report that the tool left alone is that of an earlier attempt."""
    status = status_of(tmp_path, **plan_with(tmp_path, knn(), **ONE_SEED))
    assert complete(status)
    folder = tmp_path / 'runs' / OURS
    text = (folder / 'dense.json').read_text()
    (folder / 'dense.json').write_text(
        text.replace('"sha256": "', '"sha256": "0')
    )
    with pytest.raises(UserError, match='belongs to another checkpoint'):
        write_metrics(status.runs[OURS], status.run_dir(status.runs[OURS]))


@pytest.mark.parametrize(
    ('benchmark', 'message'),
    [
        (knn(neighbours=3), 'unrecognized arguments: --neighbours 3'),
        (knn(protocols='knns'), "invalid choice: 'knns'"),
        (knn(k=0), "--k: '0' is not an integer of at least 1"),
        (knn(seed=3), 'seed is set by each run'),
        (knn(see=3), 'unrecognized arguments: --see 3'),
        (knn(temperature='nan'), '--temperature must be above 0'),
        (knn(data='{tyo}'), "there is no 'tyo' in data. Did you mean 'toy'"),
        (dict(knn(), gpus=2), 'one GPU at most'),
        (dict(knn(), labels=0.5), 'options and labels do not apply'),
        (dict(knn(), options={'a': 1}), 'options and labels do not apply'),
        (segmentation(labels=1.0)['seg'], 'less than 1'),
        (segmentation(labels=0.0)['seg'], 'greater than 0'),
    ],
)
def test_mistakes_are_found_when_the_plan_is_read(
    tmp_path, benchmark, message
):
    with pytest.raises(UserError, match=message):
        read_plan(write_plan(tmp_path, **plan_with(tmp_path, benchmark)))


def test_smaller_shares_are_part_of_larger_ones():
    names = [f'{i:03}' for i in range(200)]
    small, large = (draw(names, share, 3) for share in (0.05, 0.25))
    assert (len(small), len(large)) == (10, 50)
    assert {*small} < {*large} < {*names}
    assert draw(names[::-1], 0.05, 3) == small
    assert {*draw(names, 0.05, 4)} != {*small}
    assert len(draw(names, 0.001, 0)) == 1


def test_a_finetuning_gets_its_list_of_labels(tmp_path):
    (folder := tmp_path / 'lists').mkdir()
    names = [f'photo {i}' for i in range(40)]
    (folder / 'all.txt').write_text('\n'.join([*names, '']))
    options = {
        'train_dataloader.dataset.data_root': str(folder),
        'train_dataloader.dataset.ann_file': 'all.txt',
    }
    benchmarks = segmentation(labels=0.1, options=options)
    status = status_of(tmp_path, benchmarks=benchmarks)
    finetuning = status.runs[FINETUNED]
    assert settings_of(finetuning)['labels'] == 0.1
    test = status.runs[FINETUNED.replace('finetune', 'test')]
    assert settings_of(test)['finetune.labels'] == 0.1
    assert test.labels is None
    random = dataclasses.replace(finetuning, parent=None, weights='none')
    run_dir = status.run_dir(random)
    *_, last = build_command(status, random)
    file = list_file(run_dir)
    assert last == f'train_dataloader.dataset.ann_file={file}'
    write_list(status.plan, random, run_dir)
    taken = file.read_text().splitlines()
    assert len({*taken}) == 4
    assert {*taken} < {*names}


def test_labels_need_a_list_of_images(tmp_path, fake_tools):
    benchmarks = segmentation(labels=0.1)
    status = status_of(tmp_path, benchmarks=benchmarks, **ONE_SEED)
    assert not complete(status)
    status.forget()
    found = own(status, FINETUNED)
    assert found.state is State.FAILED
    assert 'must be a text file of image names' in found.why
