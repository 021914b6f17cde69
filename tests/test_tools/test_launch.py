"""The scripts that start the tools on several processes."""

import os
import re
import shutil
import subprocess
import sys

import pytest

from tests import ROOT
from tests.commands import SHOW_WORDS, executable, run

DEMO = 'configs/pretrain/pixcon_r18_demo.py'
CHOICES = ('PYTHON', 'VIRTUAL_ENV', 'CONDA_PREFIX')
NODES = ('NNODES', 'NODE_RANK', 'MASTER_ADDR', 'MASTER_PORT', 'PORT')


@pytest.fixture
def words_of(tmp_path, monkeypatch):
    """Return the words that a script passes to a program, not run here."""
    for name in NODES:
        monkeypatch.delenv(name, raising=False)

    def _words_of(program, script, *arguments, **env):
        fake = executable(
            tmp_path / program,
            f'{SHOW_WORDS}\necho "threads $OMP_NUM_THREADS port $MASTER_PORT"',
        )
        ours = dict(PATH=f'{tmp_path}:{os.environ["PATH"]}')
        if program == 'python':
            ours['PYTHON'] = str(fake)
        done = run('bash', f'tools/{script}', *arguments, **ours, **env)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    return _words_of


@pytest.mark.parametrize(
    ('env', 'expected'),
    [
        (
            'NNODES=3 NODE_RANK=2 MASTER_ADDR=node0 PORT=29511',
            '3 2 node0 29511',
        ),
        ('PORT=1234', '1 0 127.0.0.1 1234'),
        ('NNODES=2 NODE_RANK=0 MASTER_ADDR=node0', '2 0 node0 29500'),
    ],
)
def test_torchrun_gets_nodes_and_arguments(words_of, env, expected):
    words = words_of(
        *('python', 'dist_train.sh', 'a b.py', 4, '--resume'),
        *('--cfg-options', 'a.b=[1, 2]'),
        **dict(pair.split('=') for pair in env.split()),
    )
    nodes, rank, address, port = expected.split()
    assert words[1:-1] == [
        *('--nnodes', nodes, '--node-rank', rank, '--master-addr', address),
        *('--master-port', port, '--nproc-per-node', '4'),
        *(f'{ROOT}/tools/train.py', '--launcher', 'pytorch', 'a b.py'),
        *('--resume', '--cfg-options', 'a.b=[1, 2]'),
    ]


@pytest.mark.parametrize(
    ('tool', 'files'), [('train', ['a b.py']), ('test', ['a b.py', 'c d.pth'])]
)
def test_alone_torchrun_needs_no_address(words_of, tool, files):
    options = ['--out', 'm.json']
    words = words_of('python', f'dist_{tool}.sh', *files, 4, *options)
    assert words[1:-1] == [
        *('--standalone', '--local-addr', '127.0.0.1'),
        *('--nproc-per-node', '4', f'{ROOT}/tools/{tool}.py'),
        *('--launcher', 'pytorch', *files, *options),
    ]


def test_slurm_gets_what_it_needs(words_of):
    words = words_of(
        *('srun', 'slurm_train.sh', 'part', 'job', 'c.py', 16, '--resume'),
        GPUS_PER_NODE='4',
        CPUS_PER_TASK='6',
        SRUN_ARGS='--quotatype spot -x ./[p]yproject.toml',
        OMP_NUM_THREADS='',
        PORT='29511',
    )
    for option, value in {
        '--partition': 'part',
        '--job-name': 'job',
        '--ntasks': '16',
        '--ntasks-per-node': '4',
        '--gres': 'gpu:4',
        '--cpus-per-task': '6',
        '--quotatype': 'spot',
        '-x': './[p]yproject.toml',  # not the file
    }.items():
        assert words[words.index(option) + 1] == value
    assert words[words.index(sys.executable) + 1 :] == [
        *('-u', f'{ROOT}/tools/train.py', 'c.py', '--launcher', 'slurm'),
        *('--resume', 'threads 6 port 29511'),
    ]
    # Linux takes ports for outgoing connections from 32768 on.
    for _ in range(4):
        last = words_of('srun', 'slurm_train.sh', 'p', 'j', 'c.py', 1)[-1]
        assert 20000 <= int(last.rpartition('port ')[2]) < 32768


@pytest.mark.parametrize(
    ('script', 'arguments'),
    [
        ('dist_train.sh', ['c.py', '1']),
        ('slurm_train.sh', ['part', 'job', 'c.py', '1']),
    ],
)
@pytest.mark.parametrize(
    ('active', 'expected'),
    [
        ({}, 'the one in .venv'),
        ({'PYTHON': 'mine'}, 'the named one'),
        ({'VIRTUAL_ENV': '/x'}, 'the active one'),
    ],
)
def test_scripts_choose_an_interpreter(
    tmp_path, script, arguments, active, expected
):
    executable(tmp_path / '.venv/bin/python', 'echo the one in .venv')
    executable(tmp_path / 'bin/mine', 'echo the named one')
    executable(tmp_path / 'bin/python3', 'echo the active one')
    # The command begins after srun's last option.
    srun = 'while [ "$2" != -u ]; do shift; done; exec "$@"'
    executable(tmp_path / 'bin/srun', srun)
    (tmp_path / 'tools').mkdir()
    for name in (script, 'launch.sh'):
        shutil.copy(ROOT / 'tools' / name, tmp_path / 'tools')
    env = {k: v for k, v in os.environ.items() if k not in CHOICES}
    env['PATH'] = f'{tmp_path}/bin:{env["PATH"]}'
    shown = subprocess.run(
        ['bash', tmp_path / 'tools' / script, *arguments],
        env=dict(env, **active),
        capture_output=True,
        text=True,
    )
    assert shown.stdout == f'{expected}\n', shown.stderr


@pytest.mark.parametrize(
    'script', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh']
)
def test_scripts_show_their_usage(script):
    result = run('bash', f'tools/{script}', 'only-one')
    assert result.returncode == 2
    assert result.stderr.startswith(f'usage: bash tools/{script} ')


@pytest.mark.parametrize(
    'start', [['dist_train.sh'], ['slurm_train.sh', 'part', 'job']]
)
@pytest.mark.parametrize('gpus', ['one', '0', '--resume', 'work_dirs/a'])
def test_number_of_processes_is_checked(start, gpus):
    result = run('bash', f'tools/{start[0]}', *start[1:], DEMO, gpus)
    assert result.returncode == 2
    words = f"error: GPUS is the number of processes to start, not '{gpus}'."
    assert result.stderr.strip() == words


def test_number_of_processes_on_a_node_is_checked():
    words = ('slurm_train.sh', 'part', 'job', DEMO, '8')
    result = run('bash', f'tools/{words[0]}', *words[1:], GPUS_PER_NODE='08')
    assert result.returncode == 2
    assert result.stderr.strip() == (
        "error: GPUS_PER_NODE is a number of processes, not '08'."
    )


@pytest.mark.parametrize('known', ['NODE_RANK=1', 'MASTER_ADDR=node0'])
def test_several_machines_need_to_find_the_first(known, monkeypatch):
    for name in NODES:
        monkeypatch.delenv(name, raising=False)
    env = dict([known.split('=')], NNODES='2')
    result = run('bash', 'tools/dist_train.sh', DEMO, 8, **env)
    assert result.returncode == 2
    assert 'with NNODES=2, each machine needs NODE_RANK' in result.stderr


@pytest.mark.slow
def test_wrong_arguments_end_with_the_usage_alone():
    result = run('bash', 'tools/dist_train.sh', DEMO, 1, '--pretraned', 'x')
    assert result.returncode == 2
    assert 'error: unrecognized arguments: --pretraned x' in result.stderr
    assert 'Traceback' not in result.stderr
    assert 'elastic' not in result.stderr


@pytest.mark.slow
def test_two_processes_over_gloo(config):
    work_dir = config.parent / 'work'
    result = run(
        *('bash', 'tools/dist_train.sh', config, 2, '--work-dir', work_dir),
        *('--total-batch', 4),
        CUDA_VISIBLE_DEVICES='',
    )
    assert result.returncode == 0, result.stderr
    assert 'total batch 4 = 2 processes x 2 images' in result.stdout
    assert result.stdout.count('SyncBN needs CUDA') == 1
    assert result.stdout.count('epoch 2/2 [2/2]') == 1
    # Digits only: neither nan nor inf.
    losses = re.findall(r'\]  loss (\S+)  left', result.stdout)
    assert len(losses) == 4
    assert all(re.fullmatch(r'\d+\.\d{3}', loss) for loss in losses)
    assert 'UserWarning' not in result.stderr


@pytest.mark.slow
@pytest.mark.parametrize('rank', [0, 1])
def test_a_process_that_fails_alone_is_not_silent(config, rank):
    result = run(
        *('bash', 'tools/dist_train.sh', config, 2),
        *('--work-dir', config.parent / 'work'),
        *('--cfg-options', f'model.bad_rank={rank}'),
        CUDA_VISIBLE_DEVICES='',
    )
    assert result.returncode == 1
    sentence = 'error: Only this process cannot find its data.'
    reported = re.search(rf'rank +: {rank} ', result.stderr)
    assert sentence in result.stderr or (rank == 1 and reported)


def at_import_of_torch(tool, action, **env):
    """Run a tool up to where it imports PyTorch, which takes seconds."""
    code = (
        'import os, runpy, signal, sys\n'
        'class Finder:\n'
        '    def find_spec(self, name, *_):\n'
        '        if name == "torch":\n'
        f'            {action}\n'
        'sys.meta_path.insert(0, Finder())\n'
        f'runpy.run_path("tools/{tool}.py", run_name="__main__")\n'
    )
    return run(sys.executable, '-c', code, **env)


@pytest.mark.parametrize('tool', ['train', 'test'])
@pytest.mark.parametrize('chosen', ['', 'ACTIVE'])
def test_waiting_threads_leave_the_cores_to_others(tool, chosen, monkeypatch):
    """OpenMP reads the policy when PyTorch loads it."""
    monkeypatch.delenv('OMP_WAIT_POLICY', raising=False)
    env = dict(OMP_WAIT_POLICY=chosen) if chosen else {}
    action = 'print(os.environ["OMP_WAIT_POLICY"], flush=True), os._exit(0)'
    done = at_import_of_torch(tool, action, **env)
    assert done.stdout.strip() == (chosen or 'PASSIVE')


@pytest.mark.parametrize('name', ['SIGTERM', 'SIGINT', 'SIGUSR1'])
@pytest.mark.parametrize('tool', ['train', 'torchrun', 'reproduce'])
def test_a_signal_during_the_start_asks_to_be_started_again(tool, name):
    action = f'os.kill(os.getpid(), signal.{name})'
    assert at_import_of_torch(tool, action).returncode == 75
