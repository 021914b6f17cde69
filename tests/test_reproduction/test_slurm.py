"""Jobs for Slurm: a fake sbatch on PATH receives them."""

import os
import re
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pixcon_mm.errors import UserError
from reproduction.execute import Choice, execute
from reproduction.plan_file import read_plan
from reproduction.slurm import script_of, submit
from reproduction.state import Survey
from tests.test_reproduction.plans import plan_dict, survey_of, write_plan
from tests.test_reproduction.sbatch import read_options

ROOT = Path(__file__).resolve().parents[2]
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


@pytest.fixture
def box(tmp_path, monkeypatch):
    """A cluster of two scripts; gives the folder of its jobs."""
    box, bin_ = tmp_path / 'jobs', tmp_path / 'bin'
    box.mkdir()
    bin_.mkdir()
    for name, text in (('sbatch', SBATCH), ('squeue', SQUEUE)):
        file = bin_ / name
        file.write_text(text.format(box=box))
        file.chmod(file.stat().st_mode | stat.S_IEXEC)
    monkeypatch.setenv('PATH', f'{bin_}:{os.environ["PATH"]}')
    return box


def jobs(box):
    """What sbatch was given: run, dependency and script of each job."""
    found = {}
    for folder in sorted(box.glob('[0-9]*')):
        arguments = (folder / 'arguments').read_text().split('\n')
        script = (folder / 'script').read_text()
        name = re.search('--job-name=(.+)', script)[1]
        needs = [a for a in arguments if a.startswith('--dependency')]
        found[name] = (folder.name, needs, script)
    return found


def test_sbatch_receives_every_run_after_what_it_needs(tmp_path, box):
    survey = survey_of(tmp_path)
    submit(survey, Choice(), 'plan.yaml')
    found = jobs(box)
    assert list(found) == list(survey.runs)
    numbers = {name: job for name, (job, _, _) in found.items()}
    for name, run in survey.runs.items():
        _, dependency, script = found[name]
        job = numbers.get(run.needs)
        assert dependency == ([f'--dependency=afterok:{job}'] if job else [])
        assert f' run plan.yaml --only {name} &' in script


def test_a_second_submit_leaves_the_queue_alone(tmp_path, box, capsys):
    submit(survey_of(tmp_path), Choice(('pretrain/*',)), 'plan.yaml')
    assert len(jobs(box)) == 2
    submit(survey_of(tmp_path), Choice(), 'plan.yaml')
    found = jobs(box)
    assert len(found) == 10
    assert 'pretrain/sr-toy-seed0: job 101 is in the queue' in (
        capsys.readouterr().out
    )
    assert found['finetune/seg/sr-toy-seed0'][1] == [
        '--dependency=afterok:101'
    ]
    # A job that has ended without completing its run is submitted anew.
    (box / 'ended').write_text('101\n')
    submit(survey_of(tmp_path), Choice(('pretrain/*',)), 'plan.yaml')
    assert len(list(box.glob('[0-9]*'))) == 11


def test_complete_runs_are_no_jobs(tmp_path, box, fake_tools):
    execute(survey_of(tmp_path), Choice(('pretrain/*',)), lambda _: None)
    submit(survey_of(tmp_path), Choice(), 'plan.yaml')
    found = jobs(box)
    assert not any(name.startswith('pretrain') for name in found)
    assert found['finetune/seg/sr-toy-seed0'][1] == []
    assert found['test/seg/sr-toy-seed0'][1]


def test_script_resumes_on_requeue(tmp_path):
    benchmarks = plan_dict(tmp_path)['benchmarks']
    benchmarks['seg']['gpus'] = 4
    slurm = {'time': '24:00:00', 'partition': 'gpu', 'requeue': None}
    survey = survey_of(tmp_path, benchmarks=benchmarks, slurm=slurm)
    run = survey.runs['finetune/seg/random-seed0']
    folder = survey.folder(run)
    script = script_of(survey.plan, run, folder, 'plan.yaml')
    lines = script.split('\n')
    assert lines[0] == '#!/usr/bin/env bash'
    for line in (
        '--gres=gpu:4',
        '--cpus-per-task=32',
        '--ntasks=1',
        '--time=24:00:00',
        '--partition=gpu',
        '--open-mode=append',
        '--kill-on-invalid-dep=yes',
        f'--output={folder.path}.slurm-%j.txt',
    ):
        assert f'#SBATCH {line}' in lines
    # The plan took it out, and with it the notice.
    assert not any('--requeue' in line for line in lines)
    assert 'scontrol' not in script
    assert '--signal' not in script
    checked = subprocess.run(['bash', '-n'], input=script, text=True)
    assert checked.returncode == 0


@pytest.mark.parametrize(('status', 'requeues'), [(75, True), (3, False)])
def test_notice_of_slurm_requeues_the_job(tmp_path, status, requeues):
    """The script's own shell, with scontrol and the run as stand-ins."""
    survey = survey_of(tmp_path)
    run = survey.runs['pretrain/sr-toy-seed0']
    script = script_of(survey.plan, run, survey.folder(run), 'plan.yaml')
    assert '#SBATCH --requeue' in script
    assert '#SBATCH --signal=B:USR1@180' in script
    bin_ = tmp_path / 'bin'
    bin_.mkdir()
    scontrol = bin_ / 'scontrol'
    scontrol.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/asked\n')
    scontrol.chmod(0o755)
    started = tmp_path / 'started'
    script = re.sub(
        r'\n.*reproduce.py.* &\n',
        f'\n(trap "sleep 1; exit {status}" USR1; touch {started}; '
        'while :; do sleep 0.1; done) &\n',
        script,
    )
    path = f'{bin_}:{os.environ["PATH"]}'
    shell = subprocess.Popen(
        ['bash', '-c', script],
        env={**os.environ, 'PATH': path, 'SLURM_JOB_ID': '7'},
    )
    while not started.exists():
        assert shell.poll() is None
    shell.send_signal(signal.SIGUSR1)
    # The run gets the notice, and its exit is the job's.
    assert shell.wait(timeout=10) == status
    assert (tmp_path / 'asked').exists() == requeues
    if requeues:
        assert (tmp_path / 'asked').read_text() == 'requeue 7\n'


def test_spaces_in_the_work_dir(tmp_path, box):
    survey = survey_of(tmp_path, work_dir=str(tmp_path / 'my runs'))
    submit(survey, Choice(('pretrain/*',)), 'my plan.yaml')
    _, _, script = jobs(box)['pretrain/sr-toy-seed0']
    assert f'#SBATCH --output="{tmp_path}/my runs/pretrain/' in script
    assert " run 'my plan.yaml' --only " in script


PROGRAM = """#!/usr/bin/env bash
# Keeps where it was started and with what.
{ printf '%s\\0' "$PWD" "$@"; } > "$RECORD"
"""


def test_script_is_safe_whatever_its_words_hold(tmp_path, monkeypatch):
    """bash runs the one command, sbatch reads the options of the plan."""
    evil = 'a b\'"\n#SBATCH --uid=0\n#PBS -q x\n$(touch pwned)`touch pwned`;'
    root = tmp_path / evil
    root.mkdir()
    program = tmp_path / f'{evil} python'
    program.write_text(PROGRAM)
    program.chmod(0o755)
    options = {
        'comment': '" --uid=0 $(touch pwned) `touch pwned` # \\',
        'account': '#x',
        'mem': 0,
        'exclusive': True,
        'requeue': False,
    }
    work_dir = str(tmp_path / '50% of "it"')
    survey = survey_of(tmp_path, slurm=options, work_dir=work_dir)
    run = survey.runs['pretrain/sr-toy-seed0']
    monkeypatch.chdir(root)
    monkeypatch.setattr(sys, 'executable', str(program))
    plan_file = f'{evil}.yaml'
    script = script_of(survey.plan, run, survey.folder(run), plan_file)

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
        *('tools/reproduce.py', 'run', plan_file),
        *('--only', run.name),
    ]
    assert list(root.iterdir()) == []  # nothing else was run
    log = f'{work_dir}/{run.name}.slurm-%j.txt'.replace('50%', '50%%')
    assert sorted(read_options(script)) == sorted(
        [
            f'--job-name={run.name}',
            *('--nodes=1', '--ntasks=1', '--cpus-per-task=8'),
            *('--open-mode=append', '--kill-on-invalid-dep=yes'),
            f'--output={log}',
            f'--comment={options["comment"]}',
            *('--account=#x', '--mem=0', '--exclusive'),
        ]
    )


def test_work_dir_that_no_directive_can_hold(tmp_path, box):
    survey = survey_of(tmp_path, work_dir=str(tmp_path / 'a\n#SBATCH -x'))
    with pytest.raises(UserError, match='output has the value'):
        submit(survey, Choice(), 'plan.yaml')
    assert jobs(box) == {}


def test_dry_run_is_comments_and_scripts(tmp_path, capsys):
    data = dict(toy=dict(root='no\ntouch pwned', files={'*.jpg': 1}))
    sets = dict(toy=dict(title='toys', data=['toy']))
    survey = survey_of(tmp_path, data=data, pretrain_sets=sets)
    submit(survey, Choice(('pretrain/*',)), 'plan.yaml', is_dry=True)
    said = capsys.readouterr().out
    assert 'touch pwned' in said
    assert not re.search('^touch', said, flags=re.M)


def test_nothing_is_submitted_twice_if_slurm_is_silent(tmp_path, box):
    submit(survey_of(tmp_path), Choice(('pretrain/*',)), 'plan.yaml')
    (box / 'broken').touch()
    with pytest.raises(UserError, match='squeue .*no answer.*try again'):
        submit(survey_of(tmp_path), Choice(('pretrain/*',)), 'plan.yaml')
    assert len(jobs(box)) == 2


def test_redo_reaches_the_jobs(tmp_path, box, fake_tools):
    execute(survey_of(tmp_path), Choice(), lambda _: None)
    methods = plan_dict(tmp_path)['methods']
    methods['sr']['options'] = {'model.loss_lambda': 0.0}
    with pytest.raises(UserError, match='stale: pretrain/.*--redo'):
        submit(survey_of(tmp_path, methods=methods), Choice(), 'plan.yaml')
    again = Choice(redo=True)
    submit(survey_of(tmp_path, methods=methods), again, 'plan.yaml')
    found = jobs(box)
    assert len(found) == 6  # random weights are complete
    assert all(' --redo &' in script for _, _, script in found.values())
    assert found['test/seg/sr-toy-seed0'][1]


def test_dry_run_of_the_paper_plan(box):
    said = subprocess.run(
        [sys.executable, 'tools/reproduce.py', 'submit', '--dry-run'],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert list(box.iterdir()) == []  # nothing was submitted
    plan = read_plan(ROOT / 'plans/paper.yaml')
    runs = Survey(plan).runs
    reasons, *parts = said.split('# sbatch ')
    assert 'there is no folder' in reasons or Path('data').exists()
    assert len(parts) == len(runs)
    for part, run in zip(parts, runs.values(), strict=True):
        command, script = part.split('\n', 1)
        assert f'#SBATCH --job-name={run.name}\n' in script
        assert f'#SBATCH --gres=gpu:{run.gpus}\n' in script
        assert '#SBATCH --requeue\n' in script
        assert f'--only {run.name} &' in script
        if run.needs:
            assert f'--dependency=afterok:<job of {run.needs}>' in command
        else:
            assert '--dependency' not in command


def test_what_would_fail_is_not_submitted(tmp_path, box, fake_tools):
    missing = dict(toy=dict(root=str(tmp_path / 'no'), files={'*.jpg': 1}))
    survey = survey_of(tmp_path, data=missing)
    with pytest.raises(
        UserError, match='Nothing is submitted: missing: there is'
    ):
        submit(survey, Choice(), 'plan.yaml')
    with pytest.raises(UserError, match='needs pretrain/.*: choose it too'):
        submit(survey_of(tmp_path), Choice(('finetune/*',)), 'plan.yaml')
    benchmarks = plan_dict(tmp_path)['benchmarks']
    benchmarks['seg']['gpus'] = 16
    survey = survey_of(tmp_path, benchmarks=benchmarks)
    with pytest.raises(UserError, match='wants 16 GPUs'):
        submit(survey, Choice(), 'plan.yaml')
    assert jobs(box) == {}


def test_unknown_name(tmp_path, box):
    with pytest.raises(UserError, match='No run matches nothing'):
        submit(survey_of(tmp_path), Choice(('nothing',)), 'p.yaml', True)


def test_without_slurm(tmp_path, monkeypatch):
    write_plan(tmp_path)
    monkeypatch.setenv('PATH', str(tmp_path))
    with pytest.raises(UserError, match='no sbatch on PATH'):
        submit(survey_of(tmp_path), Choice(), 'plan.yaml')
