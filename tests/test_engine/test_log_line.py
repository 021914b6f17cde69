"""Log lines that a person sees."""

import logging
import re

import pytest

from pixcon_mm.engine.log_line import TerminalFormatter, is_readable
from tests import ROOT, toy
from tests.commands import run

# As in the log of the toy recipe.
LINE = re.compile(
    r'\d\d:\d\d epoch ([12])/2 \[([1-4])/4\]  loss \d+\.\d{3}  '
    r'left 0:00:\d\d  \d\S* img/s  data \d+%  lr \S+  grad \S+  '
    r'image \d+\.\d{3}  dense \d+\.\d{3}\n'
)
ORDER = [(e, i) for e in '12' for i in '1234']


def record(message, level=logging.INFO):
    return logging.LogRecord('x', level, 'x', 1, message, None, None)


@pytest.mark.parametrize(
    ('message', 'level', 'is_shown'),
    [
        ('Saving checkpoint at 1 epochs', logging.INFO, True),
        ('\nConfig:\nmodel = dict()\n', logging.INFO, False),
        ('Something\nis wrong', logging.WARNING, True),
        ('"FileClient" will be deprecated', logging.WARNING, False),
        ('Exp name: x_2026', logging.INFO, False),
        ('LR is set based on batch size of 64.0', logging.INFO, False),
        ('bbox_mAP_copypaste: 0.1 0.2', logging.INFO, False),
        ('Exp name: x_2026', logging.ERROR, True),
        ('masks: a deprecated value', logging.WARNING, True),
        ('two\nlines', logging.INFO, True),
        ('\n+---+\n| a |', logging.INFO, True),
    ],
)
def test_dumps_stay_off_the_terminal(message, level, is_shown):
    assert is_readable(record(message, level)) == is_shown


# Of the longest runs and numbers that a recipe has.
LONG = (
    'epoch 799/800 [1847/1848]  loss 8.123  left 11d 02:03  2934 img/s  '
    'data 3%  lr 0.0123  grad 12.3  image 4.012  dense 4.111  7.1 GiB  '
    'overlap 0.591  pos_sim 0.123  neg_lse 5.123'
)


@pytest.mark.parametrize(
    ('columns', 'end'),
    [(79, '11d 02:03'), (80, 'img/s'), (95, 'data 3%'), (300, 'lse 5.123')],
)
def test_a_line_fits_into_the_terminal(monkeypatch, columns, end):
    monkeypatch.setenv('COLUMNS', str(columns))
    line = TerminalFormatter().format(record(LONG))
    assert line.endswith(end)
    assert len(line) <= columns


def test_other_lines_stay_whole_and_warnings_are_marked(monkeypatch):
    monkeypatch.setenv('COLUMNS', '20')
    write = TerminalFormatter().format
    sentence = 'A sentence  that is longer than the terminal is wide.'
    assert write(record(sentence))[15:] == sentence
    assert write(record('No.', logging.WARNING))[15:] == 'WARNING No.'
    assert write(record('epoch 1/800 [5/9]  loss 1.0'))[15:] == (
        'epoch 1/800 [5/9]  loss 1.0'
    )


def test_of_a_long_warning_the_first_line_is_shown():
    write = TerminalFormatter().format
    assert write(record('\nA value.\nAt a.\nAt b.', logging.WARNING))[15:] == (
        'WARNING A value. (more lines in the log file)'
    )
    error = write(record('A value.\nAt a.', logging.ERROR))
    assert error.endswith('A value.\nAt a.')


@pytest.mark.slow
def test_pipe_gets_plain_lines_and_file_gets_all(tmp_path):
    config, folder = toy.write_config(tmp_path), tmp_path / 'work'
    # pytest-xdist sets the width of a terminal.
    start = (ROOT / 'tools/train.py', config, '--work-dir', folder)
    done = run(*start, COLUMNS='')
    assert done.returncode == 0, done.stderr
    assert '\x1b' not in done.stdout
    assert LINE.findall(done.stdout) == ORDER
    assert len(done.stdout.splitlines()) < 20
    (file,) = (tmp_path / 'work').glob('*/*.log')
    assert 'System environment' in file.read_text()
    assert 'param_scheduler=[' in file.read_text()
    (scalars,) = (tmp_path / 'work').glob('*/vis_data/scalars.json')
    assert '"images_per_second": ' in scalars.read_text()
