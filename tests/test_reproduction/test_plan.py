"""Plans are read whole, or refused with the place and the reason."""

import datetime
import re
from functools import reduce
from operator import getitem

import pytest
import yaml

from pixcon_mm.errors import UserError
from reproduction.plan import read_plan
from reproduction.runs import runs_of, table_rows
from tests import ROOT
from tests.test_reproduction.conftest import plan_dict, write_plan


def test_the_plan_of_the_documentation(tmp_path):
    page = (ROOT / 'docs/tables.md').read_text()
    (text,) = re.findall(r'```yaml\n(.*?)```', page, re.S)
    file = tmp_path / 'plan.yaml'
    file.write_text(text)
    runs = runs_of(read_plan(file))
    assert len(runs) == 6
    assert 'evaluate/correspondence/pixcon-sr-mine-seed1' in runs


def test_runs_of_a_plan(tmp_path):
    tables = plan_dict(tmp_path)['tables']
    tables['again'] = tables['main']
    plan = read_plan(write_plan(tmp_path, tables=tables))
    assert table_rows(plan, 'again') == [('random', None), ('sr', 'toy')]
    runs = runs_of(plan)
    assert list(runs) == [
        'pretrain/sr-toy-seed0',
        'pretrain/sr-toy-seed1',
        'finetune/seg/random-seed0',
        'finetune/seg/random-seed1',
        'finetune/seg/sr-toy-seed0',
        'finetune/seg/sr-toy-seed1',
        'test/seg/random-seed0',
        'test/seg/random-seed1',
        'test/seg/sr-toy-seed0',
        'test/seg/sr-toy-seed1',
    ]
    random = runs['finetune/seg/random-seed1']
    assert (random.parent, random.weights, random.seed) == (None, 'none', 1)
    ours = runs['finetune/seg/sr-toy-seed1']
    assert (ours.kind, ours.benchmark, ours.seed) == ('finetune', 'seg', 1)
    assert (ours.method, ours.pretrain_set) == ('sr', 'toy')
    assert (ours.parent, ours.weights) == (runs['pretrain/sr-toy-seed1'], None)
    assert runs['test/seg/sr-toy-seed1'].parent == ours


def test_a_seed_without_pretraining_takes_the_first(tmp_path):
    path = write_plan(tmp_path, seeds=[1, 2, 3], pretrain_seeds=[1, 2])
    runs = runs_of(read_plan(path)).values()
    parents = {
        run.seed: run.parent.seed
        for run in runs
        if run.kind == 'finetune' and run.parent
    }
    assert parents == {1: 1, 2: 2, 3: 1}


def changed(folder, path, value):
    """Return the plan with a value at a path; without it if that is None."""
    plan = plan_dict(folder)
    plan['tables']['main']['compare'] = ['random']
    *keys, last = (int(k) if k.isdigit() else k for k in path.split('.'))
    node = reduce(getitem, keys, plan)
    if value is None:
        del node[last]
    else:
        node[last] = value
    return plan


@pytest.mark.parametrize(
    ('path', 'value', 'reason'),
    [
        ('titel', 'x', "no key 'titel'.*Did you mean 'title'"),
        ('work_dir', None, "'work_dir' is missing"),
        ('work_dir', 'a\n#SBATCH -x', 'work_dir: .*pattern'),
        ('work_dir', 'a\\b', 'work_dir: .*pattern'),
        ('seeds', [], 'seeds: '),
        ('seeds', [0, 1, 0], 'is listed twice'),
        ('seeds', [2**32], 'seeds: 0: .*less than'),
        ('seeds', ['0'], "seeds: 0: .*integer, not '0'"),
        ('seeds', 3, 'seeds: .*list'),
        (
            'pretrain_sets.toy.options',
            {'data_root': '{toys}/'},
            "toy: there is no 'toys' in data. Did you mean 'toy'",
        ),
        ('data.toy.root', "/my 'data'", 'data_root: .*no quotes'),
        ('methods.sr.gpus', -1, 'methods: sr: gpus: .*equal to 0'),
        ('methods.sr.weights', 'none', 'sr: it takes either'),
        ('methods.random.weights', 'timm', "weights: .*not 'timm'"),
        ('methods.a b', dict(title='x', weights='none'), 'methods: a b'),
        ('methods.sr', 'PixCon', 'methods: sr: .*dictionary'),
        ('benchmarks.seg.data', ['toys'], "'toys'.*mean 'toy'"),
        ('tables.main.benchmarks', ['sag'], "main.*mean 'seg'"),
        ('tables.main.compare', ['rendom'], "main.*mean 'random'"),
        ('tables.main.compare', 'random', 'compare: .*list'),
        ('tables.main.rows.0.methods', ['sr'], 'compare: random has no row'),
        ('benchmarks.seg.metrics.mIoU.scale', 'x', 'mIoU: scale: .*number'),
        (
            'methods.sr.options',
            {'randomness.seed': 5},
            'methods: sr: options: randomness.seed: .*use seeds',
        ),
        (
            'benchmarks.seg.options',
            {'train_dataloader.batch_size': 8},
            'seg: options: .*auto_scale_lr.base_batch_size',
        ),
        ('methods.random.gpus', 1, 'random: it has existing weights'),
        ('methods.sr.epochs', 9, 'sr: epochs and pretrain_set'),
        # Options that no job script can hold.
        ('slurm', {'comment': 'x\ntouch pwned'}, 'comment.*line'),
        ('slurm', {'comment\n#SBATCH --uid': '0'}, 'slurm: comment'),
        ('slurm', {'Time': '1'}, 'slurm: Time'),
        ('slurm', {True: '1'}, 'slurm: .*not True'),
        ('slurm', {'gres': ['gpu:1']}, 'gres: .*text in quotes'),
        ('slurm', {'deadline': datetime.date(2026, 1, 1)}, 'text in'),
    ],
)
def test_mistakes_are_named(tmp_path, path, value, reason):
    file = tmp_path / 'plan.yaml'
    file.write_text(yaml.safe_dump(changed(tmp_path, path, value)))
    with pytest.raises(UserError, match=f'(?s){file}: .*{reason}'):
        read_plan(file)


@pytest.mark.parametrize(
    ('value', 'text'),
    [
        (1, '1'),
        (0.5, '0.5'),
        (True, 'True'),
        (None, 'None'),
        ('a/b', 'a/b'),
        ('/my photos', '/my photos'),
        (['my photos', 1], '[my photos, 1]'),
        ([1, 2], '[1,2]'),
        (['a', 'b'], '[a,b]'),
        ([['a'], [1]], '[[a],[1]]'),
    ],
)
def test_values_arrive_as_they_were(tmp_path, value, text):
    plan = read_plan(write_plan(tmp_path))
    assert plan.arguments({'key': value}) == [f'key={text}']


@pytest.mark.parametrize('value', ['1', 'None', 'a,b', "it's", {'a': 1}])
def test_values_that_would_arrive_as_others(tmp_path, value):
    plan = read_plan(write_plan(tmp_path))
    with pytest.raises(ValueError, match='key: .* cannot be written'):
        plan.arguments({'key': value})


def test_two_runs_of_one_name(tmp_path):
    plan = plan_dict(tmp_path)
    sets, methods = plan['pretrain_sets'], plan['methods']
    sets['toy-toy'] = sets['toy']
    methods['sr-toy'] = {**methods['sr'], 'options': {'resume': True}}
    plan['tables']['main']['rows'] = [
        dict(methods=['sr-toy'], pretrain_sets=['toy']),
        dict(methods=['sr'], pretrain_sets=['toy-toy']),
    ]
    path = write_plan(tmp_path, **plan)
    with pytest.raises(UserError, match='called pretrain/sr-toy-toy-seed0'):
        runs_of(read_plan(path))


def test_missing_and_unreadable_files(tmp_path):
    path = write_plan(tmp_path)
    with pytest.raises(UserError, match='mean .*plan.yaml'):
        read_plan(tmp_path / 'plam.yaml')
    text = path.read_text()
    for content, reason in (
        ('a: [1', 'cannot be read'),
        ('', 'dictionary'),
        (f'{text}\ntitle: Again\n', "key 'title' appears twice"),
    ):
        path.write_text(content)
        with pytest.raises(UserError, match=reason):
            read_plan(path)


def test_times_are_not_read_as_numbers(tmp_path):
    path = write_plan(tmp_path)
    text = path.read_text() + 'slurm: {time: 24:00:00, mem: 0, nice: null}\n'
    path.write_text(text)
    slurm = {'time': '24:00:00', 'mem': 0, 'nice': None}
    assert read_plan(path).slurm == slurm
