"""Submission of the runs of a plan as jobs of Slurm.

A job is a script that a user can read, change and submit again. It calls
``reproduce.py run`` for one run. In its directives, sbatch splits text at
white space, except inside double quotes; a backslash escapes the next
character, and variables are not expanded. A line break would begin another
directive or a command, so plans with multi-line values are refused.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from pixcon_mm.errors import UserError
from pixcon_mm.files import atomic_write
from pixcon_mm.wording import counted
from reproduction.execute import Selection
from reproduction.plan import Plan
from reproduction.run_dir import RunDir
from reproduction.runs import SCORED, Run
from reproduction.status import PlanStatus, State

GPUS_PER_NODE = 8
CPUS_PER_GPU = 8  # for the workers of a pre-training's loader
NOTICE_SECONDS = 180  # from Slurm's signal to the end of a job's time

SCRIPT = """\
#!/usr/bin/env bash
{directives}
set -euo pipefail
cd {root}
{traps}{command} &
run=$!
# A signal of Slurm interrupts this wait, not the run.
while kill -0 "$run" 2>/dev/null; do
    wait "$run" || true
done
status=0
wait "$run" || status=$?
{requeue}exit "$status"
"""
# Without these traps, a signal of Slurm would end the script, and with it the
# job, before the run has saved.
CANCELLED = """\
# When the job is cancelled or preempted, the run saves a checkpoint. Slurm
# itself decides whether to put the job back into the queue.
trap 'cancelled=yes; kill -TERM %1 2>/dev/null || true' TERM
"""
TIME_IS_UP = """\
# At the signal of Slurm, before its time is up, the run saves a checkpoint and
# ends with status 75.
trap 'kill -USR1 %1 2>/dev/null || true' USR1
"""
REQUEUE = """\
# After status 75, put the job back into the queue; the run then resumes. After
# the failure of a node, Slurm does that itself.
if [ "$status" = 75 ] && [ -z "${cancelled:-}" ]; then
    scontrol requeue "$SLURM_JOB_ID"
fi
"""


def submit(
    status: PlanStatus,
    selection: Selection,
    plan_file: str,
    is_dry: bool = False,
) -> None:
    """Submit every selected run that is incomplete and not in the queue.

    A dry run only writes the scripts and a list of the commands.

    Raises:
        UserError: If jobs would fail, or if there is no Slurm.
    """
    done = {State.COMPLETE}
    if not selection.redo:
        done.add(State.LOST)  # its result is still valid
    pending = {
        run.name: run
        for run in selection.pick(status.runs)
        if status.status(run).state not in done
    }
    reasons = _obstacles(status, pending, selection.redo)
    if not is_dry and shutil.which('sbatch') is None:
        raise UserError(
            'There is no sbatch on PATH: submit from a machine of the '
            'cluster, or use `run`.'
        )
    if not is_dry and reasons:
        raise UserError(
            f'Nothing was submitted: {"; ".join(reasons)}. Fix this, select '
            'runs with --only, or repeat stale runs with --redo.'
        )
    jobs: dict[str, str] = {}
    commands: list[str] = []
    for name, run in pending.items():
        run_dir = status.run_dir(run)
        job = None if is_dry else queued_job(run_dir)
        if job:
            jobs[name] = job
            print(f'{name}: job {job} is in the queue')
            continue
        script = job_script(
            status.plan, run, run_dir, plan_file, selection.redo
        )
        file = run_dir.path.with_name(f'{run_dir.path.name}.sh')
        line = ['sbatch', '--parsable', str(file)]
        if run.parent and run.parent.name in pending:
            parent = run.parent.name
            job = f'<job of {parent}>' if is_dry else jobs[parent]
            line.insert(2, f'--dependency=afterok:{job}')
        atomic_write(file, script.encode())
        if is_dry:
            commands.append(bash_words(line))
            continue
        output = _call(
            line, 'Jobs before this one are in the queue; submit again later.'
        )
        jobs[name] = output.split(';')[0]
        atomic_write(run_dir.beside('job'), jobs[name].encode())
        print(f'{name}: job {jobs[name]}')
    print(f'Not complete: {counted(len(pending), "run")}.')
    if is_dry:
        folder = Path(status.plan.work_dir)
        _show_dry_run(pending.values(), folder, commands, reasons)


def _show_dry_run(
    runs: Iterable[Run], folder: Path, commands: list[str], reasons: list[str]
) -> None:
    """Print a summary of the jobs, and write their commands into a file."""
    file = folder / 'jobs.txt'
    atomic_write(file, '\n'.join([*commands, '']).encode())
    for (kind, gpus), count in Counter((r.kind, r.gpus) for r in runs).items():
        jobs, each = counted(count, 'job'), counted(gpus, 'GPU')
        print(f'  {kind}: {jobs} of {each}')
    print(
        f'The scripts are in {folder}/, named KIND/NAME.sh; {file} has a '
        'command for each. Nothing was submitted.'
    )
    for reason in reasons:
        print(f'Jobs would fail: {reason}')


def _obstacles(
    status: PlanStatus, pending: dict[str, Run], redo: bool
) -> list[str]:
    """List reasons why jobs would fail."""
    reasons = []
    for name, run in pending.items():
        own = status.status(run)
        if own.state is State.NO_DATA:
            reasons.append(own.why)
        if own.state is State.STALE and not redo:
            reasons.append(f'stale: {name}: {own.why}')
        is_running = own.state is State.RUNNING
        if is_running and not queued_job(status.run_dir(run)):
            reasons.append(f'{name} runs outside Slurm')
        if run.gpus > GPUS_PER_NODE:
            reasons.append(
                f'{name} needs {run.gpus} GPUs, but a job has one node of '
                f'{GPUS_PER_NODE}: lower its gpus in the plan'
            )
        if not status.has_start(run) and run.parent.name not in pending:
            state = status.parent(run).state
            how = ', with --redo' if state is State.LOST and not redo else ''
            reasons.append(
                f'{name} needs {run.parent.name}, whose state is '
                f'{state.value!r}: select it too{how}'
            )
    return list(dict.fromkeys(reasons))


def job_script(
    plan: Plan, run: Run, run_dir: RunDir, plan_file: str, redo: bool = False
) -> str:
    """Write the script of a job, without its dependency."""
    log = str(run_dir.path).replace('%', '%%')
    options = {
        'job-name': run.name,
        'nodes': 1,
        'ntasks': 1,
        'gres': f'gpu:{run.gpus}' if run.gpus else None,
        'cpus-per-task': max(run.gpus, 1) * CPUS_PER_GPU,
        'requeue': True,
        'signal': f'B:USR1@{NOTICE_SECONDS}',
        'open-mode': 'append',
        'kill-on-invalid-dep': 'yes',
        'output': f'{log}.slurm-%j.txt',
        **plan.slurm,
    }
    # A test would start over, and be stopped at the same time limit again.
    resumes = run.kind not in SCORED
    if not options['requeue']:
        options['signal'] = None
    directives = [
        directive(key, value)
        for key, value in options.items()
        # Keep 0, which has a meaning, such as all memory of a node.
        if value is not None and value is not False
    ]
    command = [sys.executable, 'tools/reproduce.py', 'run', plan_file]
    command += ['--only', run.name]
    if redo:
        command.append('--redo')
    return SCRIPT.format(
        traps=CANCELLED + (TIME_IS_UP if options['requeue'] else ''),
        requeue=REQUEUE if options['requeue'] and resumes else '',
        directives='\n'.join(directives),
        root=bash_words([str(Path.cwd())]),
        command=bash_words(command),
    )


def queued_job(run_dir: RunDir) -> str | None:
    """Return the job id of a run if its job is waiting or running.

    Raises:
        UserError: If Slurm does not answer. To submit a second job would be
            wrong: it would wait for the first one, with its GPUs idle.
    """
    file = run_dir.beside('job')
    if not file.exists() or shutil.which('squeue') is None:
        return None
    job = file.read_text(encoding='utf-8').strip()
    line = ['squeue', '--noheader', '--jobs', job, '--format', '%T']
    advice = 'Runs could be submitted twice without it: try again.'
    return job if _call(line, advice, 'Invalid job id') else None


def _call(line: list[str], advice: str, harmless: str | None = None) -> str:
    """Call a program of Slurm; return its output, '' for a harmless error."""
    result = subprocess.run(line, capture_output=True, text=True)
    if harmless and harmless in result.stderr:
        return ''
    if result.returncode:
        raise UserError(
            f'{bash_words(line)} failed: {result.stderr.strip()} {advice}'
        )
    return result.stdout.strip()


def directive(key: str, value: str | float | bool) -> str:
    r"""Write an option as a line for sbatch.

    Example:
        >>> print(directive('comment', 'a "b"'))
        #SBATCH --comment="a \"b\""
    """
    if value is True:
        return f'#SBATCH --{key}'
    text = str(value)
    if not re.fullmatch(r'[A-Za-z0-9_@%+=:,./-]+', text):
        escaped = text.replace('\\', r'\\').replace('"', r'\"')
        text = f'"{escaped}"'
    return f'#SBATCH --{key}={text}'


def bash_words(words: list[str]) -> str:
    r"""Write a command for bash on one line, even if words have line breaks.

    Example:
        >>> bash_words(['cat', 'a b', 'c\n'])
        "cat 'a b' $'\\143\\012'"
    """
    return ' '.join(
        shlex.quote(word) if word.isprintable() else _octal(word)
        for word in words
    )


def _octal(word: str) -> str:
    digits = ''.join(f'\\{byte:03o}' for byte in os.fsencode(word))
    return f"$'{digits}'"
