"""Every run once, in order; what is interrupted goes on; nothing is lost."""

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from pixcon_mm.errors import UserError
from reproduction import attempt as attempt_module
from reproduction import execute as execute_module
from reproduction.collect import collect
from reproduction.execute import Choice, execute
from reproduction.settings import read_configs_anew
from reproduction.state import State
from tests.test_reproduction.plans import (
    methods,
    metrics_of,
    sha256,
    survey_of,
)

FORK = multiprocessing.get_context('fork')
PRETRAINED = 'pretrain/sr-toy-seed0'
CHANGED = methods(options={'model.loss_lambda': 0.25})


def quiet(text: str) -> None:
    pass


def run(folder, *only, redo=False, gpus=None, say=quiet, **changes):
    survey = survey_of(folder, **changes)
    done = execute(survey, Choice(only, gpus, redo), say)
    survey.forget()
    return survey, done


def states(survey):
    return {name: survey.status(r).state for name, r in survey.runs.items()}


def cells(survey):
    (table,) = collect(survey)
    return [row.cells['seg/mIoU'].values for row in table.rows]


def test_from_nothing_to_the_table(tmp_path, fake_tools):
    survey, done = run(tmp_path)
    assert done
    assert set(states(survey).values()) == {State.COMPLETE}
    assert fake_tools() == dict.fromkeys(survey.runs, 1)
    # A fine-tuning started from the checkpoint of its pre-training.
    folder = survey.folder(survey.runs[PRETRAINED])
    text = (
        survey.folder(survey.runs['finetune/seg/sr-toy-seed0']).path
        / 'epoch_3.pth'
    ).read_text()
    assert text == f'finetune {folder.path}/epoch_3.pth 0 3'
    test = metrics_of(survey, 'test/seg/sr-toy-seed0')
    finetuned = metrics_of(survey, 'finetune/seg/sr-toy-seed0')
    assert test['start_sha256'] == finetuned['checkpoint']['sha256']
    digest = sha256(folder.path / 'epoch_3.pth')
    assert finetuned['start_sha256'] == digest
    assert metrics_of(survey, PRETRAINED)['checkpoint']['sha256'] == digest
    assert metrics_of(survey, PRETRAINED)['metrics']['end'] == 1.0
    # A second call has nothing to do.
    survey, done = run(tmp_path)
    assert done
    assert fake_tools() == dict.fromkeys(survey.runs, 1)


def test_cost_and_cells(tmp_path, fake_tools):
    survey, _ = run(tmp_path)
    (table,) = collect(survey)
    random, ours = table.rows
    assert random.pretrain is None
    assert ours.pretrain.images_per_second == 10
    assert ours.pretrain.memory_gib == 2  # as logged, in MiB
    assert 0 < ours.pretrain.device_hours < 0.1
    assert ours.epochs == 8
    cell = ours.cells['seg/mIoU']
    assert cell.values == [
        metrics_of(survey, f'test/seg/sr-toy-seed{seed}')['metrics']['mIoU']
        for seed in (0, 1)
    ]
    assert (cell.wanted, cell.pretrainings) == (2, 2)
    assert len(ours.curves) == len(ours.checkpoints) == 2


def test_failure_is_told_and_the_rest_goes_on(tmp_path, fake_tools):
    (tmp_path / 'fail').touch()
    said = []
    survey, done = run(tmp_path, 'pretrain/*', '*random*', say=said.append)
    assert not done
    assert any('failed: the disk is full.' in line for line in said)
    status = survey.status(survey.runs[PRETRAINED])
    assert status.state is State.FAILED
    assert 'the disk is full.' in status.why
    # Each was tried once; what needs them was not.
    assert fake_tools()[PRETRAINED] == 1
    assert 'finetune/seg/sr-toy-seed0' not in fake_tools()
    assert 'finetune/seg/random-seed1' in fake_tools()
    (tmp_path / 'fail').unlink()
    survey, done = run(tmp_path)
    assert done
    assert fake_tools()[PRETRAINED] == 2  # went on, after epoch 2
    notes = survey.folder(survey.runs[PRETRAINED]).read('attempts.json')
    assert [note['exit'] for note in notes] == [1, 0]


def test_a_work_dir_that_cannot_be(tmp_path, fake_tools):
    (tmp_path / 'file').touch()
    for folder in (tmp_path / 'file', '/proc/nowhere'):
        with pytest.raises(UserError, match=f'{folder}.*another work_dir'):
            run(tmp_path, work_dir=str(folder))


def wait_for(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(
    ('only', 'name'),
    [
        (('pretrain/*',), PRETRAINED),
        (('finetune/seg/random*',), 'finetune/seg/random-seed0'),
    ],
)
def test_killed_runs_go_on(tmp_path, fake_tools, only, name):
    whole = tmp_path / 'whole'
    whole.mkdir()
    (tmp_path / 'sleep').touch()
    process = FORK.Process(target=run, args=(tmp_path, *only))
    process.start()
    survey = survey_of(tmp_path)
    folder = survey.folder(survey.runs[name])
    wait_for((folder.path / 'epoch_2.pth').exists)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    # The tool it had started lives on, and the run is its own.
    assert survey.status(survey.runs[name]).state is State.RUNNING
    (tmp_path / 'sleep').unlink()
    wait_for(lambda: not folder.is_running())
    survey.forget()
    assert survey.status(survey.runs[name]).state is State.INTERRUPTED
    survey, done = run(tmp_path)
    assert done
    text = (folder.path / 'epoch_3.pth').read_text()
    assert text.endswith(' 3')
    notes = folder.read('attempts.json')
    assert [note['exit'] for note in notes] == [None, 0]


def test_stopping_ends_the_tool(tmp_path, fake_tools, monkeypatch):
    (tmp_path / 'sleep').touch()
    monkeypatch.setattr(attempt_module, 'HEARTBEAT', 0.0)

    def interrupt(name, line):
        if (tmp_path / 'started').exists():
            raise KeyboardInterrupt

    survey = survey_of(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        execute(survey, Choice(), quiet, interrupt)
    folder = survey.folder(survey.runs[PRETRAINED])
    assert not folder.is_running()
    assert folder.read('attempts.json')[-1]['error'] == 'it was stopped'


def test_two_at_once_run_nothing_twice(tmp_path, fake_tools):
    processes = [FORK.Process(target=run, args=(tmp_path,)) for _ in range(3)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    survey = survey_of(tmp_path)
    assert set(states(survey).values()) == {State.COMPLETE}
    assert fake_tools() == dict.fromkeys(survey.runs, 1)


def test_data_are_made_once(tmp_path, fake_tools):
    make = tmp_path / 'make.py'
    counter = tmp_path / 'made'
    make.write_text(
        'import pathlib, time\n'
        f'open({str(counter)!r}, "a").write("x")\n'
        'time.sleep(0.3)\n'
        f'root = pathlib.Path({str(tmp_path / "new")!r})\n'
        'root.mkdir()\n'
        '(root / "a.jpg").touch()\n'
    )
    data = dict(
        toy=dict(
            root=str(tmp_path / 'new'), files={'*.jpg': 1}, make=str(make)
        )
    )
    processes = [
        FORK.Process(target=run, args=(tmp_path,), kwargs=dict(data=data))
        for _ in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert counter.read_text() == 'x'
    assert len(fake_tools()) == 10


def test_a_changed_plan_is_run_again_only_if_asked(tmp_path, fake_tools):
    run(tmp_path)
    survey, done = run(tmp_path, methods=CHANGED)
    assert not done
    assert fake_tools()[PRETRAINED] == 1
    status = survey.status(survey.runs[PRETRAINED])
    assert status.state is State.STALE
    assert status.why == 'model.loss_lambda was 0.5, is 0.25'
    test = survey.status(survey.runs['test/seg/sr-toy-seed0'])
    assert test.state is State.STALE
    assert test.why == 'start.start.model.loss_lambda was 0.5, is 0.25'
    assert cells(survey)[1] == []  # stale numbers are in no table
    assert len(cells(survey)[0]) == 2
    survey, done = run(tmp_path, redo=True, methods=CHANGED)
    assert done
    assert fake_tools()[PRETRAINED] == 2
    assert fake_tools()['test/seg/random-seed0'] == 1
    old = tmp_path / f'runs/{PRETRAINED}.old1'
    assert (old / 'metrics.json').exists()


def test_old_results_are_not_those_of_a_new_pretraining(tmp_path, fake_tools):
    """Also while the new one is not there yet."""
    run(tmp_path)
    (tmp_path / 'fail').touch()
    survey, done = run(tmp_path, 'pretrain/*', redo=True, methods=CHANGED)
    assert not done
    assert states(survey)[PRETRAINED] is State.FAILED
    assert states(survey)['finetune/seg/sr-toy-seed0'] is State.STALE
    assert states(survey)['test/seg/sr-toy-seed0'] is State.STALE
    assert cells(survey)[1] == []


def test_a_config_edited_while_it_runs(tmp_path, fake_tools):
    """What was started is written down, not what the file holds now."""
    config = tmp_path / 'edited.py'
    base = Path('configs/pretrain/pixcon_r18_demo.py').resolve()
    config.write_text(f'_base_ = {str(base)!r}\nauto_scale_lr = dict(a=1)\n')
    tables = dict(
        main=dict(
            title='Main',
            rows=[dict(methods=['sr'], sets=['toy'])],
            benchmarks=['seg'],
        )
    )
    plan = dict(methods=methods(config=str(config)), tables=tables)

    (tmp_path / 'sleep').touch()
    process = FORK.Process(
        target=run, args=(tmp_path, PRETRAINED), kwargs=plan
    )
    process.start()
    wait_for((tmp_path / 'started').exists)
    config.write_text(config.read_text().replace('a=1', 'a=2'))
    (tmp_path / 'sleep').unlink()
    process.join()
    read_configs_anew()
    survey = survey_of(tmp_path, **plan)
    status = survey.status(survey.runs[PRETRAINED])
    assert status.state is State.STALE
    assert status.why == 'auto_scale_lr.a was 1, is 2'


def test_one_that_cannot_start_does_not_stop_the_others(tmp_path, fake_tools):
    """Its mistake is its own, and is kept."""
    real = execute_module.command

    def refuse(survey, one, processes=None):
        if one.name == PRETRAINED:
            raise UserError('a sentence.')
        return real(survey, one, processes)

    execute_module.command = refuse  # fake_tools puts the first one back
    survey, done = run(tmp_path)
    assert not done
    assert states(survey)[PRETRAINED] is State.FAILED
    assert 'a sentence.' in survey.status(survey.runs[PRETRAINED]).why
    assert states(survey)['test/seg/sr-toy-seed1'] is State.COMPLETE


def test_what_does_not_fit_is_said(tmp_path, fake_tools):
    said = []
    survey, done = run(tmp_path, say=said.append, methods=methods(gpus=99))
    assert not done
    assert any('wants 99 GPUs' in line for line in said)
    assert states(survey)['test/seg/random-seed0'] is State.COMPLETE
    _, done = run(tmp_path, methods=methods(gpus=99), gpus=0)
    assert done


def test_unknown_name(tmp_path, fake_tools):
    with pytest.raises(UserError, match=f'matches nothing;.* {PRETRAINED}'):
        run(tmp_path, 'nothing')
    with pytest.raises(UserError, match='example, test/seg/random-seed1'):
        run(tmp_path, 'test/seg/randm-seed1')
