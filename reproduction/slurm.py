"""The runs of a plan as jobs of Slurm.

sbatch with --dependency, and no library for it: a job is a script that a
person can read, change and submit again, and each just calls `reproduce.py
run` for one run, which resumes and takes note as it does anywhere. (submitit
submits pickled functions, and leaves dependencies to sbatch's option anyway.)
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

from pixcon_mm.errors import UserError
from pixcon_mm.files import atomic_write
from reproduction.execute import Choice
from reproduction.folder import Folder
from reproduction.plan import Plan
from reproduction.runs import Run
from reproduction.sbatch import bash_words, directive, log_pattern
from reproduction.state import State, Status, Survey

GPUS_PER_NODE = 8
CPUS_PER_GPU = 8  # the workers of a pre-training's loader
SECONDS = 180  # between Slurm's notice and the end of a job's time

SCRIPT = """\
#!/usr/bin/env bash
{directives}
set -euo pipefail
cd {root}
{notice}{command} &
run=$!
# A notice of Slurm interrupts the wait, not the run.
while kill -0 "$run" 2>/dev/null; do
    wait "$run" || true
done
status=0
wait "$run" || status=$?
{requeue}exit "$status"
"""
NOTICE = """\
# Before its time is up the run saves a checkpoint and ends with status 75.
# The trap is set first: a notice that finds none would end this script.
trap 'kill -USR1 %1' USR1
"""
# After the failure of a node Slurm does it itself.
REQUEUE = """\
# Then the job goes back into the queue, where it resumes.
if [ "$status" = 75 ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
"""


def submit(
    survey: Survey, choice: Choice, plan_file: str, is_dry: bool = False
) -> None:
    """Submit every run that is meant, not complete and not in the queue.

    Args:
        survey (Survey): The plan and its state.
        choice (Choice): Which runs.
        plan_file (str): The plan's file, for the jobs.
        is_dry (bool): Print scripts and commands, and submit nothing.

    Raises:
        UserError: If data are missing, a run is stale or wants more GPUs
            than a node has, or there is no Slurm.
    """
    pending = {
        run.name: run
        for run in choice.pick(survey.runs)
        if is_pending(survey.status(run), choice)
    }
    if is_dry:
        for sentence in obstacles(survey, pending, choice.redo):
            print(textwrap.indent(sentence, '# ', lambda _: True))
    else:
        check(survey, pending, choice.redo)
    jobs: dict[str, str] = {}
    for run in pending.values():
        folder = survey.folder(run)
        job = None if is_dry else queued(folder)
        if job:
            jobs[run.name] = job
            print(f'{run.name}: job {job} is in the queue')
            continue
        script = script_of(survey.plan, run, folder, plan_file, choice.redo)
        line = ['sbatch', '--parsable']
        if run.needs in pending:
            job = f'<job of {run.needs}>' if is_dry else jobs[run.needs]
            line.append(f'--dependency=afterok:{job}')
        file = folder.path.with_name(f'{folder.path.name}.sh')
        line.append(str(file))
        if is_dry:
            print(f'# {bash_words(line)}\n{script}')
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(script, encoding='utf-8')
        jobs[run.name] = call(line)
        atomic_write(folder.job_file, jobs[run.name].encode())
        print(f'{run.name}: job {jobs[run.name]}')
    print(f'{"# " if is_dry else ""}{len(pending)} runs are not complete.')


def is_pending(status: Status, choice: Choice) -> bool:
    """Whether a run is still to be run."""
    if status.state is State.LOST:
        return choice.redo  # it has given its result
    return status.state is not State.COMPLETE


def script_of(
    plan: Plan, run: Run, folder: Folder, plan_file: str, redo: bool = False
) -> str:
    """The script of a job, without its dependency."""
    options = {
        'job-name': run.name,
        'nodes': 1,
        'ntasks': 1,
        'gres': f'gpu:{run.gpus}' if run.gpus else None,
        'cpus-per-task': max(run.gpus, 1) * CPUS_PER_GPU,
        'requeue': True,
        'signal': f'B:USR1@{SECONDS}',
        'open-mode': 'append',
        'kill-on-invalid-dep': 'yes',
        'output': log_pattern(folder.path),
        **plan.slurm,
    }
    if not options['requeue']:
        options['signal'] = None
    directives = [
        directive(key, value)
        for key, value in options.items()
        # Not 0, which means something: all memory of a node, for one.
        if value is not None and value is not False
    ]
    command = [sys.executable, 'tools/reproduce.py', 'run', plan_file]
    command += ['--only', run.name]
    if redo:
        command.append('--redo')
    return SCRIPT.format(
        notice=NOTICE if options['requeue'] else '',
        requeue=REQUEUE if options['requeue'] else '',
        directives='\n'.join(directives),
        root=bash_words([str(Path.cwd())]),
        command=bash_words(command),
    )


def obstacles(
    survey: Survey, pending: dict[str, Run], redo: bool = False
) -> list[str]:
    """Why runs would not do what they are submitted for."""
    found: dict[str, None] = {}
    for run in pending.values():
        status: Status = survey.status(run)
        if status.state is State.NO_DATA:
            found[status.why] = None
        elif status.state is State.STALE and not redo:
            found[f'stale: {run.name}: {status.why}'] = None
        elif status.state is State.RUNNING and not queued(survey.folder(run)):
            found[f'{run.name} runs outside of Slurm'] = None
    return list(found)


def check(survey: Survey, pending: dict[str, Run], redo: bool) -> None:
    """Stop before jobs that could but fail are in the queue."""
    if shutil.which('sbatch') is None:
        raise UserError(
            'There is no sbatch on PATH: submit from a machine of the '
            'cluster, or use `run`.'
        )
    found = obstacles(survey, pending, redo)
    if found:
        raise UserError(
            f'Nothing is submitted: {"; ".join(found)}. Correct it, choose '
            'runs with --only, or do stale ones again with --redo.'
        )
    for run in pending.values():
        if run.gpus > GPUS_PER_NODE:
            raise UserError(
                f'{run.name} wants {run.gpus} GPUs, and a job has one node '
                f'of {GPUS_PER_NODE}: lower its gpus in the plan.'
            )
        if run.needs and run.needs not in pending:
            needed = survey.needed(run)
            if needed.state is not State.COMPLETE:
                raise UserError(
                    f'{run.name} needs {run.needs}, whose state is '
                    f'{needed.state.value!r}: choose it too, or do it again '
                    'with --redo.'
                )


def queued(folder: Folder) -> str | None:
    """The job of a run if it is still in the queue or running.

    Raises:
        UserError: If Slurm does not say so: a second job would wait for the
            first one, with its GPUs idle.
    """
    if not folder.job_file.exists() or shutil.which('squeue') is None:
        return None
    job = folder.job_file.read_text(encoding='utf-8').strip()
    line = ['squeue', '--noheader', '--jobs', job, '--format', '%T']
    said = subprocess.run(line, capture_output=True, text=True)
    if said.returncode and 'Invalid job id' not in said.stderr:
        raise UserError(
            f'{bash_words(line)} failed: {said.stderr.strip()} Without it '
            'runs could be submitted twice: try again.'
        )
    return job if said.returncode == 0 and said.stdout.strip() else None


def call(line: list[str]) -> str:
    """Submit; gives the job's number."""
    said = subprocess.run(line, capture_output=True, text=True)
    if said.returncode:
        raise UserError(
            f'{bash_words(line)} failed: {said.stderr.strip()} What was '
            'submitted before stays; submit again to continue.'
        )
    return said.stdout.strip().split(';')[0]
