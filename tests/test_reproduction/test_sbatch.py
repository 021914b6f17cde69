"""Words of a job script arrive as they were meant, whatever they hold."""

import os
import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pixcon_mm.errors import UserError
from reproduction.sbatch import bash_words, directive, log_pattern
from tests.test_reproduction.sbatch import read_options

NASTY = [
    'a b',
    'a "b" c',
    "it's",
    '"',
    "'",
    '\\',
    'ends with \\',
    '\\" --uid=0 \\',
    '$(touch pwned)',
    '`touch pwned`',
    '${HOME}',
    '#not a comment',
    'a #b',
    '" --uid=0 "',
    ' --wrap=x',
    '; touch pwned',
    '!x',
    '*',
    '~',
    '-n',
    '',
    'Zürich \u2028 \U0001f600',
    '{root}{0}%j',
]


@pytest.mark.parametrize('value', NASTY)
def test_sbatch_reads_the_value_back(value):
    (option,) = read_options(directive('comment', value))
    assert option == f'--comment={value}'


@settings(derandomize=True, deadline=None)
@given(st.text('ab \\"\'#$`-=:%\u00e4'))
def test_sbatch_reads_any_value_back(value):
    (option,) = read_options(directive('comment', value))
    assert option == f'--comment={value}'


def test_plain_values_stay_readable():
    assert directive('time', '1-00:00:00') == '#SBATCH --time=1-00:00:00'
    assert directive('gres', 'gpu:a100:8') == '#SBATCH --gres=gpu:a100:8'
    assert directive('mem', 0) == '#SBATCH --mem=0'
    assert directive('nice', -5) == '#SBATCH --nice=-5'
    assert directive('requeue', True) == '#SBATCH --requeue'


@pytest.mark.parametrize('character', '\n\r\t\0\x0b\x1b\x7f\x85')
def test_control_characters_are_refused(character):
    with pytest.raises(UserError, match='comment has the value .*Take them'):
        directive('comment', f'a{character}#SBATCH --uid=0')


@pytest.mark.parametrize(
    'key', ['a\nb', 'a=b', 'a b', '', '-a', 'A', 'a#', 'a\n', 'wért', '1']
)
def test_keys_that_are_no_options_are_refused(key):
    with pytest.raises(UserError, match='is no option of sbatch'):
        directive(key, 'x')


@pytest.mark.parametrize('value', [['a'], {'a': 1}, None])
def test_values_that_are_no_words_are_refused(value):
    with pytest.raises(UserError, match='gres has the value'):
        directive('gres', value)


def expanded(pattern):
    """The name of a log as Slurm makes it, for job 7 of user root."""
    if '\\' in pattern:
        return pattern.replace('\\', '')
    values = {'%': '%', 'j': '7', 'u': 'root'}
    return re.sub('%([%ju])', lambda found: values[found[1]], pattern)


def test_log_is_named_by_the_job():
    for folder in ('runs/a', 'runs/%j', 'runs/50%', 'runs/%%u', '%'):
        pattern = log_pattern(Path(folder))
        assert expanded(pattern) == f'{folder}.slurm-7.txt'
    with pytest.raises(UserError, match='backslash.*another work_dir'):
        log_pattern(Path('a\\b'))


def test_bash_reads_the_words_back(tmp_path):
    words = [
        *NASTY,
        'a\nb',
        '\n#SBATCH --uid=0\n#PBS -q x\n',
        "\n'; touch pwned; '",
        '\x01\x7f\t\r',
        os.fsdecode(b'\xff\xfe latin \xe4'),
    ]
    line = bash_words(['printf', '%s\\0', *words])
    assert '\n' not in line
    said = subprocess.run(
        ['bash', '-c', line], capture_output=True, cwd=tmp_path, check=True
    )
    assert os.fsdecode(said.stdout).split('\0')[:-1] == words
    assert list(tmp_path.iterdir()) == []
