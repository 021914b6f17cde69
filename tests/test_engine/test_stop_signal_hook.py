"""A signal stops a run with a checkpoint, and it continues as if unbroken."""

import multiprocessing
import os
import signal
import sys
import time

import pytest
import torch
from mmengine.hooks import Hook

from pixcon_mm.engine.hooks.stop_signal_hook import (
    SAME_REQUEST,
    StoppedBySignal,
    StopRequest,
    exit_stopped,
)
from pixcon_mm.processes import SIGNALS, STOPPED
from tests.test_engine.runs import (
    ACCUMULATED,
    EPOCHS,
    ITERATIONS,
    NEVER,
    At,
    assert_continues,
    config,
    names,
    resume,
    train,
)
from tests.test_engine.test_checkpoint_hook import validated


def send(number=signal.SIGTERM):
    return lambda runner: os.kill(os.getpid(), number)


def stop(cfg, iteration, number=signal.SIGTERM):
    """Send a signal at an iteration; returns what the run says."""
    with pytest.raises(StoppedBySignal) as caught:
        train(cfg, At(iteration, send(number)))
    return str(caught.value)


@pytest.mark.parametrize(
    'changes',
    [
        [],
        [EPOCHS],
        [ITERATIONS],
        [ACCUMULATED],
        pytest.param([ITERATIONS, ACCUMULATED], marks=pytest.mark.slow),
    ],
    ids=['plain', 'epochs', 'iterations', 'accumulated', 'both'],
)
def test_stopped_anywhere_and_resumed_equals_unbroken(tmp_path, changes):
    _, expected = train(config(tmp_path, 'whole', *changes))
    for iteration in (3, 4, 7):  # amid the epochs, and at the end of one
        cfg = config(tmp_path, f'run-{iteration}', *changes, NEVER)
        # The next step of the optimiser; the last is after iteration 8.
        end = iteration
        if ACCUMULATED in changes:
            end = next(n for n in (3, 6, 8) if n >= iteration)
        if end == 8:
            # Nothing is left to stop.
            run, _ = train(cfg, At(iteration, send()))
            assert run.iter == 8
            continue
        text = stop(cfg, iteration)
        assert f'SIGTERM: saved after iteration {end} of 8 in ' in text
        assert names(cfg.work_dir) == [f'iter_{end}.pth']
        cfg = config(tmp_path, f'run-{iteration}', *changes, NEVER)
        _, seen = resume(cfg)
        assert_continues(seen, expected, end)


@pytest.mark.parametrize('number', SIGNALS)
def test_each_signal_is_named(tmp_path, number, capfd):
    cfg = config(tmp_path, 'run')
    name = signal.Signals(number).name
    before = [signal.getsignal(n) for n in SIGNALS]
    assert stop(cfg, 2, number).startswith(f'{name}: saved after iteration 2')
    line = f'{name}: saving at the end of the iteration.'
    assert capfd.readouterr().err.count(line) == 1
    # They are left to whom they belonged before the training.
    assert [signal.getsignal(n) for n in SIGNALS] == before


@pytest.mark.parametrize(('changes', 'end'), [([], 5), ([ACCUMULATED], 6)])
def test_a_validation_is_finished_first(tmp_path, changes, end):
    class InValidation(Hook):
        def after_val_iter(self, runner, *args, **kwargs):
            if runner.iter == 4:
                os.kill(os.getpid(), signal.SIGUSR1)

    cfg = config(tmp_path, 'run', NEVER, validated(1.0, 2.0), *changes)
    with pytest.raises(StoppedBySignal, match=f'SIGUSR1: saved .* {end} of'):
        train(cfg, InValidation())
    path = tmp_path / f'run/iter_{end}.pth'
    meta = torch.load(path, weights_only=True)['meta']
    assert (meta['epoch'], meta['iter']) == (1, end)


def test_signals_close_together_are_one(monkeypatch):
    """A launcher passes on what the terminal has sent to all."""
    # A shell lets its background jobs ignore it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    now = [100.0]
    monkeypatch.setattr(time, 'monotonic', lambda: now[0])
    request = StopRequest()
    request.listen()
    os.kill(os.getpid(), signal.SIGTERM)
    now[0] += SAME_REQUEST / 2
    os.kill(os.getpid(), signal.SIGINT)
    assert request.signal_name == 'SIGTERM'
    now[0] += SAME_REQUEST
    # As if nothing listened.
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_forked_processes_are_ended_by_signals():
    """Those of an evaluation's pool; a parent waits for their end."""

    def wait():
        started.set()  # the fork itself is over
        time.sleep(60)

    StopRequest().listen()
    fork = multiprocessing.get_context('fork')
    started = fork.Event()
    child = fork.Process(target=wait)
    child.start()
    try:
        assert started.wait(20)
        child.terminate()
        child.join(20)
        assert child.exitcode == -signal.SIGTERM
    finally:
        child.kill()


def test_a_terminal_that_is_gone_does_not_matter(tmp_path, monkeypatch):
    class Gone:
        def fileno(self):
            return 99_999

        def write(self, text):
            raise BrokenPipeError

        flush = write

    monkeypatch.setattr(sys, 'stderr', Gone())
    assert 'saved after iteration 2' in stop(config(tmp_path, 'run'), 2)
    with pytest.raises(SystemExit) as ended:
        exit_stopped('Stopped.')
    assert ended.value.code == STOPPED
