"""Every run once, in order; what is interrupted continues; nothing is lost."""

import multiprocessing
import os
import signal
from pathlib import Path
from unittest.mock import Mock

import pytest

from pixcon_mm.checkpoint.load import sha256_of
from pixcon_mm.errors import UserError
from reproduction import execute as execute_module
from reproduction import launch
from reproduction.execute import Selection, execute
from reproduction.run_dir import RunDir
from reproduction.runs import forget_configs
from reproduction.status import State
from reproduction.tables import collect_tables
from tests.commands import wait_until
from tests.test_reproduction.conftest import (
    FINETUNED,
    ONE_SEED,
    PRETRAINED,
    TEST,
    methods,
    metrics_of,
    own,
    status_of,
)

FORK = multiprocessing.get_context('fork')
CHANGED = dict(ONE_SEED, methods=methods(options={'model.loss_lambda': 0.25}))


def run(folder, *only, redo=False, gpus=None, log=lambda _: None, **changes):
    status = status_of(folder, **changes)
    done = execute(status, Selection(only, gpus, redo), log)
    status.forget()
    return status, done


def states(status):
    return {name: status.status(r).state for name, r in status.runs.items()}


def cells(status):
    (table,) = collect_tables(status)
    return [row.cells['seg/mIoU'].values for row in table.rows]


def test_from_nothing_to_the_table(tmp_path, fake_tools):
    status, done = run(tmp_path)
    assert done
    assert set(states(status).values()) == {State.COMPLETE}
    assert fake_tools() == dict.fromkeys(status.runs, 1)
    # A fine-tuning started from the checkpoint of its pre-training.
    checkpoint = status.checkpoint(status.runs[PRETRAINED])
    text = status.checkpoint(status.runs[FINETUNED]).read_text()
    assert text == f'finetune {checkpoint} 0 3'
    pretrained, finetuned = (
        metrics_of(status, name) for name in (PRETRAINED, FINETUNED)
    )
    digest = sha256_of(checkpoint)
    assert pretrained['checkpoint']['sha256'] == digest
    assert pretrained['metrics']['end'] == 1.0
    assert finetuned['parent_sha256'] == digest
    test = metrics_of(status, TEST)
    assert test['parent_sha256'] == finetuned['checkpoint']['sha256']
    # A second call has nothing to do.
    status, done = run(tmp_path)
    assert done
    assert fake_tools() == dict.fromkeys(status.runs, 1)
    # Costs and cells.
    (table,) = collect_tables(status)
    random, ours = table.rows
    assert random.pretrain is None
    assert ours.pretrain.images_per_second == 10
    assert ours.pretrain.memory_gib == 2  # as logged, in MiB
    assert 0 < ours.pretrain.device_hours < 0.1
    assert ours.key == ('PixCon-SR', 'toys', 8)
    cell = ours.cells['seg/mIoU']
    assert cell.values == [
        metrics_of(status, f'test/seg/sr-toy-seed{seed}')['metrics']['mIoU']
        for seed in (0, 1)
    ]
    assert (cell.wanted, cell.pretrainings) == (2, 2)
    assert len(ours.checkpoints) == 2
    assert [*ours.curves] == [0, 1]


def test_after_a_failure_others_continue(tmp_path, fake_tools):
    (tmp_path / 'fail').touch()
    lines = []
    status, done = run(tmp_path, 'pretrain/*', '*random*', log=lines.append)
    assert not done
    assert any('failed: the disk is full.' in line for line in lines)
    found = own(status, PRETRAINED)
    assert found.state is State.FAILED
    assert 'the disk is full.' in found.why
    # Each was tried once; what needs them was not.
    assert fake_tools()[PRETRAINED] == 1
    assert FINETUNED not in fake_tools()
    assert 'finetune/seg/random-seed1' in fake_tools()
    (tmp_path / 'fail').unlink()
    status, done = run(tmp_path)
    assert done
    attempts = status.run_dir(status.runs[PRETRAINED]).attempts()
    assert [attempt['exit'] for attempt in attempts] == [1, 0]


def test_an_impossible_work_dir(tmp_path, fake_tools):
    (tmp_path / 'file').touch()
    for folder in (tmp_path / 'file', '/proc/nowhere'):
        with pytest.raises(UserError, match=f'{folder}.*another work_dir'):
            run(tmp_path, work_dir=str(folder))


@pytest.mark.parametrize('name', [PRETRAINED, 'finetune/seg/random-seed0'])
def test_killed_runs_continue(tmp_path, fake_tools, name):
    (tmp_path / 'sleep').touch()
    process = FORK.Process(target=run, args=(tmp_path, name), kwargs=ONE_SEED)
    process.start()
    status = status_of(tmp_path, **ONE_SEED)
    run_dir = status.run_dir(status.runs[name])
    wait_until((run_dir.path / 'epoch_2.pth').exists)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    # The tool that it had started lives on, and keeps the lock.
    assert states(status)[name] is State.RUNNING
    (tmp_path / 'sleep').unlink()
    wait_until(lambda: not run_dir.is_running())
    status.forget()
    assert states(status)[name] is State.INTERRUPTED
    _, done = run(tmp_path, **ONE_SEED)
    assert done
    assert (run_dir.path / 'epoch_3.pth').read_text().endswith(' 3')
    assert [a['exit'] for a in run_dir.attempts()] == [None, 0]


@pytest.mark.parametrize('is_full', [False, True])
def test_stopping_ends_the_tool(tmp_path, fake_tools, monkeypatch, is_full):
    """Also with a disk that does not take the record of it."""
    (tmp_path / 'sleep').touch()
    full = Mock(side_effect=UserError('the disk is full'))
    status = status_of(tmp_path)
    with monkeypatch.context() as patch:

        def interrupt(seconds):
            if (tmp_path / 'started').exists():
                if is_full:
                    patch.setattr(RunDir, 'write', full)
                raise KeyboardInterrupt

        patch.setattr(launch.time, 'sleep', interrupt)
        with pytest.raises(KeyboardInterrupt):
            execute(status, Selection(), lambda _: None)
    run_dir = status.run_dir(status.runs[PRETRAINED])
    assert not run_dir.is_running()
    error = run_dir.attempts()[-1]['error']
    assert error == (None if is_full else 'it was stopped')
    status.forget()
    assert states(status)[PRETRAINED] is State.INTERRUPTED


def test_several_at_once_run_nothing_twice(tmp_path, fake_tools):
    """And make their data once."""
    make, new = tmp_path / 'make.py', tmp_path / 'new'
    make.write_text(
        'import pathlib, time\n'
        f'open({str(tmp_path / "made")!r}, "a").write("x")\n'
        'time.sleep(0.3)\n'
        f'root = pathlib.Path({str(new)!r})\n'
        'root.mkdir()\n'
        '(root / "a.jpg").touch()\n'
    )
    toy = dict(root=str(new), files={'*.jpg': 1}, make=str(make))
    changes = dict(ONE_SEED, data=dict(toy=toy))
    processes = [
        FORK.Process(target=run, args=(tmp_path,), kwargs=changes)
        for _ in range(3)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    status = status_of(tmp_path, **ONE_SEED)
    assert set(states(status).values()) == {State.COMPLETE}
    assert fake_tools() == dict.fromkeys(status.runs, 1)
    assert (tmp_path / 'made').read_text() == 'x'


def test_a_changed_plan_is_run_again_only_with_redo(tmp_path, fake_tools):
    run(tmp_path, **ONE_SEED)
    status, done = run(tmp_path, **CHANGED)
    assert not done
    assert fake_tools()[PRETRAINED] == 1
    change = 'model.loss_lambda was 0.5, is 0.25'
    for name, prefix in ((PRETRAINED, ''), (TEST, 'finetune.pretrain.')):
        found = own(status, name)
        assert found.state is State.STALE
        assert found.why == f'{prefix}{change}'
    assert cells(status)[1] == []  # stale numbers are in no table
    assert len(cells(status)[0]) == 1
    _, done = run(tmp_path, redo=True, **CHANGED)
    assert done
    assert fake_tools()[PRETRAINED] == 2
    assert fake_tools()['test/seg/random-seed0'] == 1
    assert (tmp_path / f'runs/{PRETRAINED}.old1/metrics.json').exists()


def test_old_results_are_not_those_of_a_new_pretraining(tmp_path, fake_tools):
    """The new one may still be incomplete."""
    run(tmp_path, **ONE_SEED)
    (tmp_path / 'fail').touch()
    status, done = run(tmp_path, 'pretrain/*', redo=True, **CHANGED)
    assert not done
    assert states(status)[PRETRAINED] is State.FAILED
    assert states(status)[FINETUNED] is State.STALE
    assert states(status)[TEST] is State.STALE
    assert cells(status)[1] == []


def test_a_config_edited_while_it_runs(tmp_path, fake_tools):
    """The settings of the start are recorded, not those of the end."""
    config = tmp_path / 'edited.py'
    base = Path('configs/pretrain/pixcon_r18_demo.py').resolve()
    config.write_text(f'_base_ = {str(base)!r}\nauto_scale_lr = dict(a=1)\n')
    plan = dict(methods=methods(config=str(config)))
    (tmp_path / 'sleep').touch()
    process = FORK.Process(
        target=run, args=(tmp_path, PRETRAINED), kwargs=plan
    )
    process.start()
    wait_until((tmp_path / 'started').exists)
    config.write_text(config.read_text().replace('a=1', 'a=2'))
    (tmp_path / 'sleep').unlink()
    process.join()
    forget_configs()
    status = status_of(tmp_path, **plan)
    found = own(status, PRETRAINED)
    assert found.state is State.STALE
    assert found.why == 'auto_scale_lr.a was 1, is 2'


def test_a_run_that_cannot_start_does_not_stop_the_others(
    tmp_path, fake_tools, monkeypatch
):
    real = execute_module.build_command

    def refuse(status, one, processes=None):
        if one.name == PRETRAINED:
            raise UserError('a sentence.')
        return real(status, one, processes)

    monkeypatch.setattr(execute_module, 'build_command', refuse)
    status, done = run(tmp_path)
    assert not done
    assert states(status)[PRETRAINED] is State.FAILED
    assert 'a sentence.' in own(status, PRETRAINED).why
    assert states(status)['test/seg/sr-toy-seed1'] is State.COMPLETE


def test_runs_with_more_gpus_than_there_are(tmp_path, fake_tools):
    lines = []
    changes = dict(ONE_SEED, methods=methods(gpus=99))
    status, done = run(tmp_path, log=lines.append, **changes)
    assert not done
    assert any('needs 99 GPUs' in line for line in lines)
    assert states(status)['test/seg/random-seed0'] is State.COMPLETE
    _, done = run(tmp_path, gpus=0, **changes)
    assert done


def test_existing_weights_need_no_pretraining_set(tmp_path):
    table = dict(title='T', benchmarks=['seg'])
    rows = [dict(methods=['random'], pretrain_sets=[])]
    status = status_of(tmp_path, tables=dict(main=dict(table, rows=rows)))
    assert {run.kind for run in status.runs.values()} == {'finetune', 'test'}
    rows = [dict(methods=['sr'], pretrain_sets=[])]
    status = status_of(tmp_path, tables=dict(main=dict(table, rows=rows)))
    with pytest.raises(UserError, match='The plan has no runs'):
        execute(status, Selection(), lambda _: None)
