r"""Words of a job script, as sbatch and as bash read them.

sbatch passes a directive through no shell. It splits the line at white space;
quotes group, a backslash takes the next character as it is, and a # outside
of quotes begins a comment; nothing is expanded (``src/sbatch/opt.c`` of
Slurm). A line break ends a directive wherever it is, and what follows is a
line of the script: to sbatch it may be another directive, to bash a command.
So nothing here has more than one line.
"""

from __future__ import annotations

import os
import re
import shlex
from pathlib import Path

from pixcon_mm.errors import UserError

# What cannot be in a line of text: control characters, half characters.
UNPRINTABLE = re.compile(r'[\x00-\x1f\x7f-\x9f\ud800-\udfff]')
PLAIN = re.compile(r'[A-Za-z0-9_@%+=:,./-]+')


def directive(key: str, value: object) -> str:
    r"""Write an option as a line for sbatch.

    Args:
        key (str): Long name of the option, without its dashes.
        value (str | int | float | bool): True for an option without a value.

    Raises:
        UserError: If sbatch has no option of such a name or could not read
            such a value.

    Example:
        >>> print(directive('comment', 'a "b"'))
        #SBATCH --comment="a \"b\""
    """
    if not re.fullmatch('[a-z][a-z-]*', key):
        raise UserError(
            f'slurm: {key!r} is no option of sbatch: use its long name '
            'without the dashes, such as time or mem-per-cpu.'
        )
    if not isinstance(value, str | int | float):
        raise UserError(
            f'slurm: {key} has the value {value!r}: an option of sbatch '
            'takes a word in quotes, a number, true or false.'
        )
    if value is True:
        return f'#SBATCH --{key}'
    text = str(value)
    if UNPRINTABLE.search(text):
        raise UserError(
            f'slurm: {key} has the value {text!r}: a line of a job script '
            'cannot hold line breaks and other control characters. Take '
            'them out.'
        )
    if not PLAIN.fullmatch(text):
        text = re.sub(r'(["\\])', r'\\\1', text)
        text = f'"{text}"'
    return f'#SBATCH --{key}={text}'


def log_pattern(path: Path) -> str:
    r"""Name the log of a job for sbatch's ``output``, with the job's number.

    Args:
        path (Path): The log without its ending.

    Raises:
        UserError: If Slurm would not put the number in.

    Example:
        >>> log_pattern(Path('runs/50%'))
        'runs/50%%.slurm-%j.txt'
    """
    if '\\' in str(path):
        raise UserError(
            f'{str(path)!r} has a backslash, and in such a name Slurm '
            'replaces nothing, the number of the job neither: choose another '
            'work_dir in the plan.'
        )
    escaped = str(path).replace('%', '%%')
    return f'{escaped}.slurm-%j.txt'


def bash_words(words: list[str]) -> str:
    r"""Write a command for bash, on one line whatever its words hold.

    Args:
        words (list[str]): Program and arguments; bytes that are not UTF-8
            as Python has them in names of files.

    Example:
        >>> bash_words(['cat', 'a b', 'c\n'])
        "cat 'a b' $'\\143\\012'"
    """
    return ' '.join(
        _octal(word) if UNPRINTABLE.search(word) else shlex.quote(word)
        for word in words
    )


def _octal(word: str) -> str:
    digits = ''.join(f'\\{byte:03o}' for byte in os.fsencode(word))
    return f"$'{digits}'"
