"""What is damaged, lost or missing is named."""

import json
import shutil

import pytest

from pixcon_mm.errors import UserError
from reproduction.collect import collect
from reproduction.execute import Choice, execute
from reproduction.overview import problems, summary
from reproduction.settings import difference, settings_of
from reproduction.state import State
from tests.test_reproduction.plans import (
    metrics_of,
    segmentation,
    survey_of,
    tamper,
)

PRETRAINED = 'pretrain/sr-toy-seed0'
FINETUNED = 'finetune/seg/sr-toy-seed0'
TEST = 'test/seg/sr-toy-seed0'


@pytest.fixture(scope='module')
def template(tmp_path_factory):
    """Where the files of a complete plan are kept for the next test."""
    return tmp_path_factory.mktemp('complete') / 'plan'


@pytest.fixture
def done(tmp_path, fake_tools, template):
    """A complete plan; gives its state anew."""
    if not template.exists():
        assert execute(survey_of(tmp_path), Choice(), lambda _: None)
        shutil.copytree(tmp_path, template)
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    return lambda: survey_of(tmp_path)


def file_of(survey, name, file='metrics.json'):
    return survey.folder(survey.runs[name]).path / file


def status(survey, name):
    return survey.status(survey.runs[name])


@pytest.mark.parametrize('name', [PRETRAINED, FINETUNED, TEST])
@pytest.mark.parametrize(
    'damage',
    [
        lambda path: path.write_text('{"content": '),
        lambda path: path.write_text('[]'),
        lambda path: path.write_bytes(b'\xff\xfe'),
        lambda path: tamper(path, '"seed": 0', '"seed": 1'),
        lambda path: path.write_text(
            json.dumps(dict(content={}, digest='beef'))
        ),
    ],
)
def test_damaged_metrics(done, tmp_path, fake_tools, name, damage):
    before = collect(done())
    path = file_of(done(), name)
    damage(path)
    survey = done()
    assert status(survey, name).state is State.DAMAGED
    (said,) = [s for s in problems(survey) if 'damaged' in s]
    assert str(path) in said
    assert name in said
    assert execute(survey, Choice(), lambda _: None)
    after = collect(done())
    assert [r.cells for r in after[0].rows] == [
        r.cells for r in before[0].rows
    ]


def test_a_number_changed_by_hand(done):
    value = metrics_of(done(), TEST)['metrics']['mIoU']
    path = file_of(done(), TEST)
    tamper(path, f'"mIoU": {value}', f'"mIoU": {value + 10}')
    survey = done()
    assert status(survey, TEST).state is State.DAMAGED
    assert 'was changed after it was written' in status(survey, TEST).why
    (table,) = collect(survey)
    assert len(table.rows[1].cells['seg/mIoU'].values) == 1


def test_missing_checkpoint(done, fake_tools):
    path = file_of(done(), PRETRAINED, 'epoch_3.pth')
    path.unlink()
    survey = done()
    assert status(survey, PRETRAINED).state is State.LOST
    assert any(
        'checkpoint missing' in s and str(path) in s for s in problems(survey)
    )
    # Its results hold, so nothing is done again ...
    assert status(survey, TEST).state is State.COMPLETE
    assert execute(survey, Choice(), lambda _: None)
    assert fake_tools()[PRETRAINED] == 1
    # ... not even if something is to start from it, unless one says so.
    for file in file_of(done(), FINETUNED, '').iterdir():
        if file.is_file():
            file.unlink()
    survey = done()
    assert status(survey, FINETUNED).state is State.WAITING
    assert status(survey, FINETUNED).why == (
        f'for {PRETRAINED}, whose checkpoint is missing'
    )
    assert not execute(survey, Choice(), lambda _: None)
    assert fake_tools()[PRETRAINED] == 1
    assert execute(done(), Choice(redo=True), lambda _: None)
    assert fake_tools()[PRETRAINED] == 2
    assert status(done(), PRETRAINED).state is State.COMPLETE


def test_a_begun_finetuning_needs_no_lost_checkpoint(done, fake_tools):
    folder = file_of(done(), FINETUNED, '')
    (folder / 'metrics.json').unlink()
    (folder / 'epoch_3.pth').unlink()
    notes = done().folder(done().runs[FINETUNED]).read('attempts.json')
    notes[-1]['exit'] = None
    done().folder(done().runs[FINETUNED]).write('attempts.json', notes)
    file_of(done(), PRETRAINED, 'epoch_3.pth').unlink()
    survey = done()
    assert status(survey, FINETUNED).state is State.INTERRUPTED
    execute(survey, Choice(), lambda _: None)
    assert status(done(), FINETUNED).state is State.COMPLETE
    assert fake_tools()[PRETRAINED] == 1


@pytest.mark.parametrize('has_file', [False, True])
def test_weights_that_are_not_here_yet(tmp_path, monkeypatch, has_file):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'hub'))
    if has_file:
        folder = tmp_path / 'hub/hub/checkpoints'
        folder.mkdir(parents=True)
        (folder / 'resnet18-f37072fd.pth').touch()
    methods = dict(
        random=dict(title='Supervised', weights='torchvision'),
        sr=dict(title='Random', weights='none'),
    )
    survey = survey_of(tmp_path, methods=methods)
    said = [s for s in problems(survey) if 'downloaded' in s]
    assert len(said) == (not has_file)


def test_a_metric_that_is_not_there_is_named(done, tmp_path):
    wrong = segmentation(metrics=dict(mIOU=dict(title='mIoU')))
    survey = survey_of(tmp_path, benchmarks=wrong)
    assert status(survey, TEST).state is State.COMPLETE
    (table,) = collect(survey)
    assert table.rows[1].cells['seg/mIOU'].values == []
    assert any('gave no mIOU, but mIoU' in s for s in problems(survey))


def test_another_checkpoint_in_its_place(done):
    path = file_of(done(), PRETRAINED, 'epoch_3.pth')
    path.write_text('something else')
    survey = done()
    for name in (PRETRAINED, FINETUNED, TEST):
        assert status(survey, name).state is State.STALE
    assert str(path) in status(survey, PRETRAINED).why


def test_the_same_file_copied_back(done):
    path = file_of(done(), PRETRAINED, 'epoch_3.pth')
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    assert status(done(), PRETRAINED).state is State.COMPLETE


def test_files_missing_from_a_data_folder(tmp_path, fake_tools):
    survey_of(tmp_path)
    (tmp_path / 'data/1.jpg').unlink()
    data = dict(
        toy=dict(
            root=str(tmp_path / 'data'), files={'*.jpg': 4}, hint='a friend'
        )
    )
    survey = survey_of(tmp_path, data=data)
    assert status(survey, PRETRAINED).state is State.NO_DATA
    assert survey.data['toy'].sentence == (
        'incomplete: *.jpg has 3 of 4 files'
    )
    assert any('data missing: toy' in s for s in problems(survey))
    assert not execute(survey, Choice(), lambda _: None)
    assert fake_tools() == {}
    # What is complete stays so without its data.
    assert execute(survey_of(tmp_path), Choice(), lambda _: None)
    survey = survey_of(tmp_path, data=data)
    assert status(survey, TEST).state is State.COMPLETE


def test_a_root_that_no_command_line_takes(tmp_path):
    """Said before anything runs."""
    (tmp_path / 'my data').mkdir()
    data = dict(toy=dict(root=str(tmp_path / 'my data'), files={'*.jpg': 0}))
    with pytest.raises(UserError, match="data_root: '.*my data/'.*no spaces"):
        survey_of(tmp_path, data=data)


def test_seed_and_start_are_part_of_what_is_asked(tmp_path):
    survey = survey_of(tmp_path)
    first, second = (
        settings_of(survey.runs[f'finetune/seg/sr-toy-seed{i}'])
        for i in (0, 1)
    )
    assert difference(first, first) == ''
    assert difference(first, second) == (
        'seed was 0, is 1; start.seed was 0, is 1'
    )
    random = settings_of(survey.runs['finetune/seg/random-seed0'])
    assert random['start'] == 'none'


def test_moving_data_or_workers_changes_nothing(done, tmp_path):
    moved = tmp_path / 'moved'
    (tmp_path / 'data').rename(moved)
    plan = dict(toy=dict(root=str(moved), files={'*.jpg': 3}))
    other = segmentation(
        title='Other words',
        protocol='other',
        options={
            'train_dataloader.num_workers': 3,
            'default_hooks.logger.interval': 7,
        },
    )
    survey = survey_of(tmp_path, data=plan, benchmarks=other)
    assert status(survey, TEST).state is State.COMPLETE
    assert summary(survey).startswith('10 runs: 10 complete. So far: 0.0')


def test_another_evaluation_makes_only_the_test_stale(done, tmp_path):
    options = {'test_evaluator.iou_metrics': ['mIoU', 'mFscore']}
    other = segmentation(options=options)
    survey = survey_of(tmp_path, benchmarks=other)
    assert status(survey, FINETUNED).state is State.COMPLETE
    assert status(survey, TEST).state is State.STALE
    assert 'test_evaluator.iou_metrics' in status(survey, TEST).why
