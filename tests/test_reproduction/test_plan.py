"""Plans are read whole, or refused with the place and the reason."""

import datetime

import pytest
import yaml

from pixcon_mm.errors import UserError
from reproduction.plan_file import read_plan
from reproduction.runs import Start, pretrain_seed, runs_of, starts
from tests.test_reproduction.plans import plan_dict, write_plan


def test_runs_of_a_plan(tmp_path):
    runs = runs_of(read_plan(write_plan(tmp_path)))
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
    names = list(runs)
    for run in runs.values():
        if run.needs:
            assert names.index(run.needs) < names.index(run.name)
    random = runs['finetune/seg/random-seed1']
    assert (random.needs, random.weights, random.seed) == (None, 'none', 1)
    ours = runs['finetune/seg/sr-toy-seed1']
    assert (ours.needs, ours.weights) == ('pretrain/sr-toy-seed1', None)
    assert runs['test/seg/sr-toy-seed1'].needs == ours.name


def test_a_seed_without_pretraining_takes_the_first(tmp_path):
    path = write_plan(tmp_path, seeds=[1, 2, 3], pretrain_seeds=[1, 2])
    plan = read_plan(path)
    assert [pretrain_seed(plan, seed) for seed in plan.seeds] == [1, 2, 1]
    runs = runs_of(plan)
    assert len([r for r in runs.values() if r.kind == 'pretrain']) == 2


def test_tables_share_runs(tmp_path):
    tables = plan_dict(tmp_path)['tables']
    tables['again'] = tables['main']
    plan = read_plan(write_plan(tmp_path, tables=tables))
    assert len(runs_of(plan)) == 10
    assert starts(plan, 'again') == [Start('random', None), Start('sr', 'toy')]


def changed(folder, *path, value):
    """The plan with a value at a path; without it if that is None."""
    plan = plan_dict(folder)
    node = plan
    for key in path[:-1]:
        node = node[key]
    if value is None:
        del node[path[-1]]
    else:
        node[path[-1]] = value
    return plan


@pytest.mark.parametrize(
    ('path', 'value', 'said'),
    [
        (('titel',), 'x', "'titel'.*Did you mean 'title'"),
        (('work_dir',), None, "lacks the key 'work_dir'"),
        (('seeds',), [], 'one seed each'),
        (('seeds',), [0, 1, 0], 'name one twice'),
        (('seeds',), [2**32], 'below'),
        (
            ('pretrain_sets', 'toy', 'options'),
            {'data_root': '{toys}/'},
            "toy: there is no 'toys' in data. Did you mean 'toy'",
        ),
        (('seeds',), ['0'], "seeds: expected a whole number.*'0'"),
        (('seeds',), 3, 'seeds: expected a list'),
        (('methods', 'sr', 'gpus'), -1, 'methods: sr: gpus.*from 0'),
        (('methods', 'sr', 'weights'), 'none', 'sr takes either'),
        (('methods', 'random', 'weights'), 'timm', "not 'timm'"),
        (('methods', 'random', 'weights'), 5, 'expected a word'),
        (('methods', 'a b'), dict(title='x', weights='none'), "'a b'"),
        (('methods', 'sr'), 'PixCon', 'methods: sr: expected keys'),
        (('benchmarks', 'seg', 'data'), ['toys'], "'toys'.*mean 'toy'"),
        (('tables', 'main', 'benchmarks'), ['sag'], "main.*mean 'seg'"),
        (
            ('benchmarks', 'seg', 'metrics', 'mIoU', 'scale'),
            'high',
            'mIoU: scale: expected a number',
        ),
    ],
)
def test_what_is_wrong_is_named(tmp_path, path, value, said):
    file = tmp_path / 'plan.yaml'
    file.write_text(yaml.safe_dump(changed(tmp_path, *path, value=value)))
    with pytest.raises(UserError, match=said) as error:
        read_plan(file)
    assert str(file) in str(error.value)


def test_a_key_that_is_there_twice(tmp_path):
    file = write_plan(tmp_path)
    file.write_text(f'{file.read_text()}\ntitle: Again\n')
    with pytest.raises(UserError, match="key 'title' is there twice"):
        read_plan(file)


def test_two_runs_of_one_name(tmp_path):
    plan = plan_dict(tmp_path)
    plan['methods']['sr-toy'] = plan['methods'].pop('sr')
    plan['methods']['sr'] = dict(
        title='Other',
        config='configs/pretrain/pixcon_r18_demo.py',
        options={'model.loss_lambda': 0.0},
    )
    plan['pretrain_sets']['toy-toy'] = plan['pretrain_sets']['toy']
    plan['tables']['main']['rows'] = [
        dict(methods=['sr-toy'], sets=['toy']),
        dict(methods=['sr'], sets=['toy-toy']),
    ]
    file = tmp_path / 'plan.yaml'
    file.write_text(yaml.safe_dump(plan))
    with pytest.raises(UserError, match='called pretrain/sr-toy-toy-seed0'):
        runs_of(read_plan(file))


def test_missing_and_unreadable_files(tmp_path):
    write_plan(tmp_path)
    with pytest.raises(UserError, match='mean .*plan.yaml'):
        read_plan(tmp_path / 'plam.yaml')
    (tmp_path / 'bad.yaml').write_text('a: [1')
    with pytest.raises(UserError, match='cannot be read'):
        read_plan(tmp_path / 'bad.yaml')
    (tmp_path / 'empty.yaml').write_text('')
    with pytest.raises(UserError, match='expected keys'):
        read_plan(tmp_path / 'empty.yaml')


@pytest.mark.parametrize(
    ('slurm', 'reason'),
    [
        ({'comment': 'x\ntouch pwned'}, 'comment has the value .*line breaks'),
        ({'comment\n#SBATCH --uid': '0'}, 'is no option of sbatch'),
        ({'Time': '1'}, "'Time' is no option of sbatch"),
        ({True: '1'}, "'True' is no option of sbatch"),
        ({'gres': ['gpu:1']}, 'gres has the value'),
        ({'deadline': datetime.date(2026, 1, 1)}, 'a word in quotes'),
    ],
)
def test_options_that_no_job_script_can_hold(tmp_path, slurm, reason):
    path = write_plan(tmp_path, slurm=slurm)
    with pytest.raises(UserError, match=f'{path}: slurm: .*{reason}'):
        read_plan(path)


def test_times_are_not_read_as_numbers(tmp_path):
    path = write_plan(tmp_path)
    text = path.read_text() + 'slurm: {time: 24:00:00, mem: 0, nice: null}\n'
    path.write_text(text)
    assert read_plan(path).slurm == {
        'time': '24:00:00',
        'mem': 0,
        'nice': None,
    }
