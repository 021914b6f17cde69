"""Damaged, lost and missing files are named."""

import shutil

import pytest

from reproduction import cli, commands
from reproduction.commands import problems, summary
from reproduction.execute import Selection, execute
from reproduction.status import State
from reproduction.tables import collect_tables
from tests.test_reproduction.conftest import (
    FINETUNED,
    ONE_SEED,
    PRETRAINED,
    TEST,
    own,
    segmentation,
    status_of,
    write_plan,
)


@pytest.fixture(scope='module')
def template(tmp_path_factory):
    """Return where files of a complete plan are kept for the next test."""
    return tmp_path_factory.mktemp('complete') / 'plan'


@pytest.fixture
def done(tmp_path, fake_tools, template):
    """Complete a plan; gives a function that returns its status."""
    if not template.exists():
        assert run(status_of(tmp_path))
        shutil.copytree(tmp_path, template)
    shutil.copytree(template, tmp_path, dirs_exist_ok=True)
    return lambda: status_of(tmp_path)


def run(status, **selection):
    return execute(status, Selection(**selection), lambda _: None)


def file_of(status, name, file='metrics.json'):
    return status.run_dir(status.runs[name]).path / file


def cells(status):
    return [row.cells for row in collect_tables(status)[0].rows]


@pytest.mark.parametrize(
    ('name', 'content'),
    [
        (PRETRAINED, b'{"content": '),
        (FINETUNED, b'\xff\xfe'),
        (TEST, b'[]'),
        (TEST, b'{"content": {}, "digest": "beef"}'),
        (TEST, None),  # a number changed by hand
    ],
)
def test_damaged_metrics(done, name, content):
    before = cells(done())
    path = file_of(done(), name)
    whole = path.read_bytes()
    path.write_bytes(content or whole.replace(b'"mIoU": ', b'"mIoU": 1'))
    assert path.read_bytes() != whole
    status = done()
    assert own(status, name).state is State.DAMAGED
    (sentence,) = [s for s in problems(status) if 'damaged' in s]
    assert str(path) in sentence
    assert name in sentence
    assert run(status)
    assert cells(done()) == before


def test_missing_checkpoint(done, fake_tools):
    path = file_of(done(), PRETRAINED, 'epoch_3.pth')
    path.unlink()
    status = done()
    assert own(status, PRETRAINED).state is State.LOST
    assert any(
        'checkpoint missing' in s and str(path) in s for s in problems(status)
    )
    # Its results hold, so nothing is done again ...
    assert own(status, TEST).state is State.COMPLETE
    assert run(status)
    assert fake_tools()[PRETRAINED] == 1
    # ... not even if something is to start from it, unless one says so.
    for file in file_of(done(), FINETUNED, '').iterdir():
        if file.is_file():
            file.unlink()
    status = done()
    assert own(status, FINETUNED).state is State.WAITING
    assert own(status, FINETUNED).why == (
        f'for {PRETRAINED}, whose checkpoint is missing'
    )
    assert not run(status)
    assert fake_tools()[PRETRAINED] == 1
    assert run(done(), redo=True)
    assert fake_tools()[PRETRAINED] == 2
    assert own(done(), PRETRAINED).state is State.COMPLETE


def test_a_stopped_repetition_continues(done, fake_tools, monkeypatch):
    """The result of a lost checkpoint does not judge the new ones."""
    file_of(done(), PRETRAINED, 'epoch_3.pth').unlink()
    with monkeypatch.context() as patch:
        # It ends between its last checkpoint and its result.
        patch.setattr('reproduction.execute.write_metrics', stop)
        with pytest.raises(KeyboardInterrupt):
            run(done(), redo=True)
    assert file_of(done(), PRETRAINED, 'epoch_3.pth').exists()
    assert own(done(), PRETRAINED).state is State.INTERRUPTED
    assert run(done())
    assert own(done(), PRETRAINED).state is State.COMPLETE


def stop(*_):
    raise KeyboardInterrupt


def test_a_started_finetuning_does_not_need_a_lost_checkpoint(
    done, fake_tools
):
    run_dir = done().run_dir(done().runs[FINETUNED])
    (run_dir.path / 'metrics.json').unlink()
    (run_dir.path / 'epoch_3.pth').unlink()
    attempts = run_dir.attempts()
    attempts[-1]['exit'] = None
    run_dir.write('attempts.json', attempts)
    file_of(done(), PRETRAINED, 'epoch_3.pth').unlink()
    status = done()
    assert own(status, FINETUNED).state is State.INTERRUPTED
    run(status)
    assert own(done(), FINETUNED).state is State.COMPLETE
    assert fake_tools()[PRETRAINED] == 1


def test_a_checkpoint_of_unknown_settings_is_not_resumed(tmp_path, fake_tools):
    path = file_of(status_of(tmp_path), PRETRAINED, 'epoch_1.pth')
    path.parent.mkdir(parents=True)
    path.write_text('of a command by hand')
    assert own(status_of(tmp_path), PRETRAINED).state is State.STALE
    assert not run(status_of(tmp_path))
    assert PRETRAINED not in fake_tools()
    assert run(status_of(tmp_path), redo=True)


@pytest.mark.parametrize('has_file', [False, True])
def test_weights_that_are_not_here_yet(tmp_path, monkeypatch, has_file):
    monkeypatch.setenv('TORCH_HOME', str(tmp_path / 'hub'))
    folder = tmp_path / 'hub/hub/checkpoints'
    folder.mkdir(parents=True)
    if has_file:
        (folder / 'resnet18-f37072fd.pth').touch()
    methods = dict(
        random=dict(title='Supervised', weights='torchvision'),
        sr=dict(title='Random', weights='none'),
    )
    sentences = problems(status_of(tmp_path, methods=methods))
    assert any('downloaded' in s for s in sentences) == (not has_file)


def test_a_metric_that_is_not_there_is_named(done, tmp_path):
    wrong = segmentation(metrics=dict(mIOU=dict(title='mIoU')))
    status = status_of(tmp_path, benchmarks=wrong)
    assert own(status, TEST).state is State.COMPLETE
    assert cells(status)[1]['seg/mIOU'].values == []
    assert any('gave no mIOU, but mIoU' in s for s in problems(status))


def test_a_metric_without_a_value_is_not_among_those_that_are_there(done):
    run_dir = done().run_dir(done().runs[TEST])
    content = run_dir.read('metrics.json')
    content['metrics'] = dict(mIoU=None, aAcc=70.0)
    run_dir.write('metrics.json', content)
    assert any('gave no mIoU, but aAcc:' in s for s in problems(done()))


def test_another_checkpoint_in_its_place(done):
    path = file_of(done(), PRETRAINED, 'epoch_3.pth')
    content = path.read_bytes()
    path.write_text('something else')
    status = done()
    for name in (PRETRAINED, FINETUNED, TEST):
        assert own(status, name).state is State.STALE
    assert str(path) in own(status, PRETRAINED).why
    # The same file, copied back.
    path.write_bytes(content)
    assert own(done(), PRETRAINED).state is State.COMPLETE


def test_files_missing_from_a_data_folder(tmp_path, fake_tools):
    status_of(tmp_path, **ONE_SEED)
    (tmp_path / 'data/1.jpg').unlink()
    toy = dict(root=str(tmp_path / 'data'), files={'*.jpg': 4})
    data = dict(ONE_SEED, data=dict(toy=toy))
    status = status_of(tmp_path, **data)
    assert own(status, PRETRAINED).state is State.NO_DATA
    assert own(status, PRETRAINED).why == 'incomplete: *.jpg has 3 of 4 files'
    assert any('data missing: toy' in s for s in problems(status))
    assert not run(status)
    assert fake_tools() == {}
    # What is complete stays so without its data.
    assert run(status_of(tmp_path, **ONE_SEED))
    assert own(status_of(tmp_path, **data), TEST).state is State.COMPLETE


def test_moving_data_or_workers_changes_nothing(done, tmp_path):
    moved = tmp_path / 'moved'
    (tmp_path / 'data').rename(moved)
    data = dict(toy=dict(root=str(moved), files={'*.jpg': 3}))
    other = segmentation(
        title='Other words',
        protocol='other',
        options={
            'train_dataloader.num_workers': 3,
            'default_hooks.logger.interval': 7,
        },
    )
    status = status_of(tmp_path, data=data, benchmarks=other)
    assert own(status, TEST).state is State.COMPLETE
    assert summary(status).startswith('10 runs: 10 complete. So far: 0.0')


def test_another_evaluation_makes_only_the_test_stale(done, tmp_path):
    options = {'test_evaluator.iou_metrics': ['mIoU', 'mFscore']}
    status = status_of(tmp_path, benchmarks=segmentation(options=options))
    assert own(status, FINETUNED).state is State.COMPLETE
    assert own(status, TEST).state is State.STALE
    assert 'test_evaluator.iou_metrics' in own(status, TEST).why


def test_the_summary_comes_first_and_details_on_request(tmp_path, capsys):
    toy = dict(root=str(tmp_path / 'nothing'), files={'*.jpg': 2})
    plan = write_plan(tmp_path, data=dict(toy=toy))
    shown = []
    for options in ([], ['--details'], ['--runs']):
        commands.call(cli.parse_args(['status', str(plan), *options]))
        shown.append(capsys.readouterr().out.splitlines())
    brief, details, runs = shown
    assert brief[0].startswith('Toy: 10 runs: 10 data missing')
    assert details[: len(brief) - 1] == runs[: len(brief) - 1] == brief[:-1]
    assert any('*.jpg  (2 files)' in line for line in details)
    assert not any('*.jpg' in line for line in brief + runs)
    names = {line.split()[0] for line in runs if line.strip()}
    assert {PRETRAINED, FINETUNED, TEST} < names
