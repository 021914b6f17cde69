"""The command line of a run: what a person would type."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

from pixcon_mm.errors import UserError
from reproduction.runs import Run, with_roots
from reproduction.settings import as_arguments, load_silently
from reproduction.state import Survey

OUTCOME = 'evaluation.json'  # of tools/test.py, until it is in metrics.json


def command(
    survey: Survey, run: Run, processes: int | None = None
) -> list[str]:
    """Build the command that starts a run, or continues it.

    Args:
        survey (Survey): Says where checkpoints are.
        run (Run): What it needs is complete.
        processes (int, optional): Instead of the plan's ``gpus``; the total
            batch stays the recipe's.

    Returns:
        list[str]: To be run in the root of this repository.
    """
    folder = survey.folder(run)
    gpus = run.gpus if processes is None else processes
    options = as_arguments(with_roots(survey.plan, run.options))
    line = [run.config]
    if run.kind == 'test':
        line.append(str(survey.checkpoint(run.before)))
    program = {'test': 'test'}.get(run.kind, 'train')
    if gpus:
        line = ['bash', f'tools/dist_{program}.sh', *line, str(gpus)]
    else:
        line = [sys.executable, f'tools/{program}.py', *line]
    line += ['--work-dir', str(folder.path)]
    if run.kind == 'test':
        line += ['--out', str(folder.path / OUTCOME)]
    elif folder.newest_checkpoint():
        line += ['--resume']  # the tool looks for the newest whole one
    elif run.kind == 'finetune':
        line += ['--pretrained', start(survey, run)]
    if run.kind == 'finetune':
        line += ['--no-validate']  # its test follows
    if run.kind != 'test' and (gpus or gpus != run.gpus):
        line += ['--total-batch', str(total_batch(run))]
    return [*line, '--cfg-options', f'randomness.seed={run.seed}', *options]


def start(survey: Survey, run: Run) -> str:
    """Where a fine-tuning's backbone comes from, as --pretrained takes it."""
    if run.weights:
        return run.weights
    return str(survey.checkpoint(run.before))


def total_batch(run: Run) -> int:
    """Images of an optimiser step by the recipe."""
    cfg = load_silently(run.config, run.options)
    base = (cfg.get('auto_scale_lr') or {}).get('base_batch_size')
    if not base:
        raise UserError(
            f'{run.config} does not state its total batch as auto_scale_lr='
            'dict(base_batch_size=...), which several processes must know '
            'to share it.'
        )
    return base


def readable(line: list[str]) -> str:
    """A command for a person to read and paste."""
    words = [Path(line[0]).name if line[0] == sys.executable else line[0]]
    return shlex.join([*words, *line[1:]])
