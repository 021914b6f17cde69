"""Jobs for Slurm: a fake sbatch on PATH receives them."""

import os
import re
import shlex
import signal
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pixcon_mm.errors import UserError
from reproduction import cli, commands
from reproduction.execute import Selection, execute
from reproduction.plan import read_plan
from reproduction.run_dir import RunDir
from reproduction.runs import runs_of
from reproduction.slurm import directive, job_script, submit
from tests import ROOT
from tests.commands import executable, wait_until
from tests.test_reproduction.conftest import (
    FINETUNED,
    ONE_SEED,
    PRETRAINED,
    TEST,
    methods,
    segmentation,
    status_of,
    write_plan,
)

SBATCH = """#!/usr/bin/env bash
# Keeps the command line and the script; numbers the jobs from 101.
count=$(ls "{box}" | grep -c '^[0-9]*$')
job=$((101 + count))
mkdir "{box}/$job"
printf '%s\\n' "$@" > "{box}/$job/arguments"
cp "${{@: -1}}" "{box}/$job/script"
echo "$job;cluster"
"""
SQUEUE = """#!/usr/bin/env bash
# All jobs that are not named in the file 'ended' wait.
job=$3
[ -e "{box}/broken" ] && {{ echo 'no answer' >&2; exit 1; }}
[ -d "{box}/$job" ] || {{ echo 'Invalid job id' >&2; exit 1; }}
grep -qx "$job" "{box}/ended" 2>/dev/null || echo PENDING
"""
NASTY = [
    *('a b', 'a "b" c', "it's", '"', "'", '\\', 'ends with \\'),
    *('\\" --uid=0 \\', '$(touch pwned)', '`touch pwned`', '${HOME}'),
    *('#not a comment', 'a #b', '" --uid=0 "', ' --wrap=x', '; touch pwned'),
    *('!x', '*', '~', '-n', '', 'Zürich \u2028 \U0001f600', '{root}{0}%j'),
]


@pytest.fixture
def box(tmp_path, monkeypatch):
    """Make a cluster of two scripts; return the folder of its jobs."""
    box, bin_ = tmp_path / 'jobs', tmp_path / 'bin'
    box.mkdir()
    executable(bin_ / 'sbatch', SBATCH.format(box=box))
    executable(bin_ / 'squeue', SQUEUE.format(box=box))
    monkeypatch.setenv('PATH', f'{bin_}:{os.environ["PATH"]}')
    return box


def jobs(box):
    """Read what sbatch got: run, number, dependency and script of each."""
    found = {}
    for folder in sorted(box.glob('[0-9]*')):
        arguments = (folder / 'arguments').read_text().split('\n')
        script = (folder / 'script').read_text()
        name = re.search('--job-name=(.+)', script)[1]
        needs = [a for a in arguments if a.startswith('--dependency')]
        found[name] = (folder.name, needs, script)
    return found


def script_of(status, name=PRETRAINED, plan_file='plan.yaml'):
    run = status.runs[name]
    return job_script(status.plan, run, status.run_dir(run), plan_file)


def read_options(script: str) -> list[str]:
    """Read a script as sbatch does: directives up to the first command.

    Lines of the older schedulers that it understands count wherever they are.
    """
    found, is_head = [], True
    for line in script.split('\n'):
        if is_head and line.startswith('#SBATCH'):
            # As sbatch: within double quotes, only \\ and \" are escaped.
            found += shlex.split(line.removeprefix('#SBATCH'), comments=True)
        elif line.startswith(('#PBS', '#BSUB')):
            found.append(line)
        elif line.strip() and not line.strip().startswith('#'):
            is_head = False
    return found


@given(st.sampled_from(NASTY) | st.text('ab \\"\'#$`-=:%\u00e4'))
def test_sbatch_reads_the_value_back(value):
    assert read_options(directive('comment', value)) == [f'--comment={value}']


def test_jobs_follow_their_parents_and_are_submitted_once(
    tmp_path, box, capsys
):
    pretrainings = Selection(('pretrain/*',))
    submit(status_of(tmp_path), pretrainings, 'plan.yaml')
    assert len(jobs(box)) == 2
    status = status_of(tmp_path)
    submit(status, Selection(), 'plan.yaml')
    found = jobs(box)
    assert list(found) == list(status.runs)
    numbers = {name: job for name, (job, _, _) in found.items()}
    for name, run in status.runs.items():
        _, dependency, script = found[name]
        job = run.parent and numbers[run.parent.name]
        assert dependency == ([f'--dependency=afterok:{job}'] if job else [])
        assert f' run plan.yaml --only {name} &' in script
    output = capsys.readouterr().out
    assert f'{PRETRAINED}: job 101 is in the queue' in output
    # A job that has ended without completing its run is submitted again.
    (box / 'ended').write_text('101\n')
    submit(status_of(tmp_path), pretrainings, 'plan.yaml')
    assert len(list(box.glob('[0-9]*'))) == 11
    (box / 'broken').touch()
    with pytest.raises(UserError, match='squeue .*no answer.*try again'):
        submit(status_of(tmp_path), pretrainings, 'plan.yaml')
    assert len(list(box.glob('[0-9]*'))) == 11


@pytest.mark.parametrize(
    ('name', 'status', 'requeues'),
    [
        ('USR1', 75, True),
        ('USR1', 3, False),
        # The user cancelled the job, or Slurm preempts it and decides itself.
        ('TERM', 75, False),
    ],
)
def test_a_job_saves_before_it_ends(tmp_path, name, status, requeues):
    """The script's own shell, with scontrol and the run as stand-ins."""
    script = script_of(status_of(tmp_path))
    assert '#SBATCH --requeue' in script
    assert '#SBATCH --signal=B:USR1@180' in script
    assert script.index('trap ') < script.index('reproduce.py')
    bin_ = tmp_path / 'bin'
    executable(bin_ / 'scontrol', f'echo "$@" > {tmp_path}/asked')
    started = tmp_path / 'started'
    script = re.sub(
        r'\n.*reproduce.py.* &\n',
        f'\n(trap "sleep 1; exit {status}" {name}; touch {started}; '
        'for i in {1..300}; do sleep 0.1; done) &\n',
        script,
    )
    path = f'{bin_}:{os.environ["PATH"]}'
    shell = subprocess.Popen(
        ['bash', '-c', script],
        env={**os.environ, 'PATH': path, 'SLURM_JOB_ID': '7'},
    )
    wait_until(lambda: started.exists() or shell.poll() is not None)
    shell.send_signal(signal.Signals[f'SIG{name}'])
    # The run gets the signal, and its exit status is the job's.
    assert shell.wait(timeout=30) == status
    assert (tmp_path / 'asked').exists() == requeues
    if requeues:
        assert (tmp_path / 'asked').read_text() == 'requeue 7\n'


@pytest.mark.slow
def test_two_signals_of_slurm_are_one(tmp_path):
    """A job's script passes on what Slurm has sent to all processes."""
    started, stops = tmp_path / 'started', tmp_path / 'stops'
    tool = (
        f'trap "touch {stops}; sleep 2; exit 75" TERM; touch {started}; '
        'for i in {1..300}; do sleep 0.1; done'
    )
    code = (
        'from reproduction import cli, execute\n'
        f'execute.build_command = lambda *_: ["bash", "-c", {tool!r}]\n'
        'cli.main()\n'
    )
    words = ['run', str(write_plan(tmp_path)), '--only', PRETRAINED]
    process = subprocess.Popen([sys.executable, '-c', code, *words])
    wait_until(lambda: started.exists() or process.poll() is not None, 120)
    process.terminate()
    wait_until(stops.exists)
    process.terminate()
    assert process.wait(timeout=60) == 75
    # Noted once the tool has ended.
    (attempt,) = RunDir(tmp_path / 'runs' / PRETRAINED).attempts()
    assert attempt['error'] == 'it was stopped'


PROGRAM = """#!/usr/bin/env bash
# Keeps where it was started and with what.
{ printf '%s\\0' "$PWD" "$@"; } > "$RECORD"
"""


def test_script_is_safe_whatever_its_words_hold(tmp_path, monkeypatch):
    """Bash runs the one command, sbatch reads the options of the plan."""
    evil = 'a b\'"\n#SBATCH --uid=0\n#PBS -q x\n$(touch pwned)`touch pwned`;'
    root = tmp_path / evil
    root.mkdir()
    program = executable(tmp_path / f'{evil} python', PROGRAM)
    options = {
        'comment': '" --uid=0 $(touch pwned) `touch pwned` # \\',
        'account': '#x',
        'mem': 0,
        'exclusive': True,
        'requeue': False,
    }
    work_dir = str(tmp_path / '50% of "it"')
    status = status_of(
        tmp_path, slurm=options, work_dir=work_dir, methods=methods(gpus=2)
    )
    settings_file = f'{evil}.yaml'
    monkeypatch.chdir(root)
    monkeypatch.setattr(sys, 'executable', str(program))
    script = script_of(status, plan_file=settings_file)
    assert 'TERM %1' in script  # saves, though it is not requeued

    record = tmp_path / 'record'
    file = tmp_path / 'script'
    file.write_text(script)
    subprocess.run(
        ['bash', str(file)],
        env={**os.environ, 'RECORD': str(record)},
        check=True,
    )
    where, *words = record.read_text().split('\0')[:-1]
    assert where == str(root)
    assert words == [
        *('tools/reproduce.py', 'run', settings_file),
        *('--only', PRETRAINED),
    ]
    assert list(root.iterdir()) == []  # nothing else was run
    log = f'{work_dir}/{PRETRAINED}.slurm-%j.txt'.replace('50%', '50%%')
    assert sorted(read_options(script)) == sorted(
        [
            f'--job-name={PRETRAINED}',
            *('--nodes=1', '--ntasks=1', '--cpus-per-task=16'),
            *('--open-mode=append', '--kill-on-invalid-dep=yes'),
            f'--output={log}',
            f'--comment={options["comment"]}',
            *('--account=#x', '--mem=0', '--exclusive', '--gres=gpu:2'),
        ]
    )


def test_redo_reaches_the_jobs(tmp_path, box, fake_tools):
    status = status_of(tmp_path, **ONE_SEED)
    execute(status, Selection(), lambda _: None)
    # Complete runs get no job, and no other job waits for them.
    (status.run_dir(status.runs[TEST]).path / 'metrics.json').unlink()
    submit(status_of(tmp_path, **ONE_SEED), Selection(), 'plan.yaml')
    assert [(name, job[1]) for name, job in jobs(box).items()] == [(TEST, [])]
    (box / 'ended').write_text('101\n')
    options = {'model.loss_lambda': 0.0}
    changed = dict(ONE_SEED, methods=methods(options=options))
    with pytest.raises(UserError, match='stale: pretrain/.*--redo'):
        submit(status_of(tmp_path, **changed), Selection(), 'plan.yaml')
    submit(status_of(tmp_path, **changed), Selection(redo=True), 'plan.yaml')
    found = jobs(box)
    assert len(found) == 3  # random weights are complete
    assert all(' --redo &' in script for _, _, script in found.values())
    assert found[TEST][1]


def test_only_what_starts_from_a_lost_checkpoint_needs_it(
    tmp_path, box, fake_tools
):
    status = status_of(tmp_path, **ONE_SEED)
    execute(status, Selection(), lambda _: None)
    (status.run_dir(status.runs[PRETRAINED]).path / 'epoch_3.pth').unlink()
    finetuned = status.run_dir(status.runs[FINETUNED]).path
    (finetuned / 'metrics.json').unlink()
    # It has a checkpoint, from which it resumes.
    only = Selection((FINETUNED,))
    submit(status_of(tmp_path, **ONE_SEED), only, 'plan.yaml')
    assert [*jobs(box)] == [FINETUNED]
    (box / 'ended').write_text('101\n')
    for path in finetuned.glob('*.pth'):
        path.unlink()
    with pytest.raises(UserError, match='select it too, with --redo'):
        submit(status_of(tmp_path, **ONE_SEED), only, 'plan.yaml')
    submit(status_of(tmp_path, **ONE_SEED), Selection(redo=True), 'plan.yaml')
    assert jobs(box)[FINETUNED][1] == ['--dependency=afterok:102']


def test_dry_run_of_the_paper_plan(box, tmp_path, capsys):
    """Scripts and commands are files; the terminal gets a summary."""
    text = (ROOT / 'plans/paper.yaml').read_text()
    text = text.replace('work_dirs/plan_paper', f'{tmp_path}/runs')
    # A folder that is nowhere, in place of one that a machine may have.
    text = re.sub(r'(root: .*)data/', rf'\1{tmp_path}/data/', text)
    plan = tmp_path / 'paper.yaml'
    plan.write_text(text)
    commands.call(cli.parse_args(['submit', str(plan), '--dry-run']))
    shown = capsys.readouterr().out
    assert list(box.iterdir()) == []  # nothing was submitted
    assert len(shown.splitlines()) < 20
    runs = runs_of(read_plan(plan))
    assert f'Not complete: {len(runs)} runs.' in shown
    assert f'there is no folder {tmp_path}/data/' in shown
    lines = (tmp_path / 'runs/jobs.txt').read_text().splitlines()
    for command, (name, run) in zip(lines, runs.items(), strict=True):
        script = (tmp_path / f'runs/{name}.sh').read_text()
        assert command.endswith(f'runs/{name}.sh')
        assert f'#SBATCH --job-name={name}\n' in script
        assert f'#SBATCH --gres=gpu:{run.gpus}\n' in script
        assert '#SBATCH --requeue\n' in script
        # A test would only be stopped again.
        assert ('scontrol requeue' in script) == (run.kind != 'test')
        assert f'--only {name} &' in script
        if run.parent:
            job = f'<job of {run.parent.name}>'
            assert f'--dependency=afterok:{job}' in command
        else:
            assert '--dependency' not in command


@pytest.mark.parametrize(
    ('changes', 'only', 'reason'),
    [
        (
            dict(data=dict(toy=dict(root='/nowhere', files={'*.jpg': 1}))),
            (),
            'Nothing was submitted: missing: there is no folder /nowhere',
        ),
        ({}, ('finetune/*',), 'needs pretrain/.*: select it too'),
        (dict(benchmarks=segmentation(gpus=16)), (), 'needs 16 GPUs'),
        ({}, ('nothing',), 'No run matches nothing'),
    ],
)
def test_what_would_fail_is_not_submitted(
    tmp_path, box, changes, only, reason
):
    status = status_of(tmp_path, **changes)
    with pytest.raises(UserError, match=reason):
        submit(status, Selection(only), 'plan.yaml')
    assert jobs(box) == {}


def test_without_slurm(tmp_path, monkeypatch):
    write_plan(tmp_path)
    monkeypatch.setenv('PATH', str(tmp_path))
    with pytest.raises(UserError, match='no sbatch on PATH'):
        submit(status_of(tmp_path), Selection(), 'plan.yaml')
