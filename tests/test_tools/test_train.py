"""The launcher as users call it, on CPU, with a toy model."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mmengine.config import Config

from pixcon_mm.config import load_config
from pixcon_mm.errors import UserError
from tests import toy
from tests.test_datasets.pictures import write_pictures

ROOT = Path(__file__).resolve().parents[2]
DEMO = 'configs/pretrain/pixcon_r18_demo.py'


@pytest.fixture(autouse=True)
def _framework_state():
    with toy.framework_state():
        yield


@pytest.fixture(scope='module')
def tool():
    """tools/train.py as a module."""
    path = ROOT / 'tools/train.py'
    spec = importlib.util.spec_from_file_location('train_tool', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def config(tmp_path):
    return toy.write_config(tmp_path)


def run(*command, **env):
    ours = dict(OMP_NUM_THREADS='1', PYTHON=sys.executable)
    env = {**os.environ, **ours, **env}
    return subprocess.run(
        [str(part) for part in command],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=240,
    )


def train(config, *options, **env):
    work_dir = Path(config).parent / 'work'
    return run(
        *(sys.executable, ROOT / 'tools/train.py', config),
        *('--work-dir', work_dir, *options),
        **env,
    )


def failure(tool, monkeypatch, capsys, *arguments):
    """Exit code and standard error of a run in this process."""
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv('PIXCON_MM_TRACEBACK', raising=False)
    monkeypatch.setattr(sys, 'argv', ['train.py', *map(str, arguments)])
    with pytest.raises(SystemExit) as stop:
        tool.run_tool(tool.main)
    return stop.value.code, capsys.readouterr().err


@pytest.mark.slow
def test_trains_resumes_and_says_where(config):
    first = train(config)
    assert first.returncode == 0, first.stderr
    work_dir = config.parent / 'work'
    assert (work_dir / 'epoch_2.pth').is_file()
    second = train(
        config, '--resume', '--cfg-options', 'train_cfg.max_epochs=3'
    )
    assert second.returncode == 0, second.stderr
    assert re.search(r'resumed epoch 2, iter 8, lr \d', second.stdout)
    assert 'epoch 3/3 [4/4]' in second.stdout
    assert 'epoch 2/3' not in second.stdout
    named = train(
        config,
        *('--resume', work_dir / 'epoch_1.pth', '--local-rank', '0'),
    )
    assert re.search(r'resumed epoch 1, iter 4, lr \d', named.stdout)


def test_nothing_to_resume_starts_from_scratch(config):
    result = train(
        config, '--resume', '--cfg-options', 'train_cfg.max_epochs=1'
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count('There is no checkpoint in') == 1
    assert 'resumed epoch' not in result.stdout
    assert 'epoch 1/1 [1/4]' in result.stdout


@pytest.mark.parametrize(('number', 'claims'), [('0', 1), ('1', 0)])
@pytest.mark.parametrize('resumes', [False, True])
def test_one_process_claims_for_all(
    tool, monkeypatch, config, number, claims, resumes
):
    """Of those of Slurm, which all see the same environment otherwise."""
    claimed = []
    monkeypatch.setenv('SLURM_PROCID', number)
    monkeypatch.setattr(tool, 'claim', lambda *given: claimed.append(given))
    monkeypatch.setattr(tool, 'build_runner', lambda cfg: 1 / 0)
    options = ['--launcher', 'slurm', '--work-dir', str(config.parent)]
    # Resuming can be asked for in the config as well.
    options += ['--cfg-options', 'resume=True'] if resumes else []
    monkeypatch.setattr(sys, 'argv', ['train.py', str(config), *options])
    with pytest.raises(ZeroDivisionError):
        tool.main()
    assert claimed == [(config.parent, resumes, False)] * claims


@pytest.mark.parametrize(
    'resume', [['--resume'], ['--cfg-options', 'resume=True']]
)
def test_overwriting_and_resuming_exclude_each_other(tool, config, resume):
    args = tool.parse_args([str(config), '--overwrite', *resume])
    with pytest.raises(UserError, match='exclude each other'):
        tool.prepare(args)


def test_a_new_run_does_not_mix_with_an_old_one(
    tool, monkeypatch, capsys, config
):
    work_dir = config.parent / 'work'
    work_dir.mkdir()
    (work_dir / 'epoch_1.pth').write_bytes(b'checkpoint')
    code, shown = failure(
        tool, monkeypatch, capsys, config, '--work-dir', work_dir
    )
    assert code == 1
    assert 'has checkpoints of an earlier run (epoch_1.pth)' in shown
    assert (work_dir / 'epoch_1.pth').read_bytes() == b'checkpoint'


@pytest.mark.slow
def test_two_processes_over_gloo(config):
    work_dir = config.parent / 'work'
    result = run(
        *('bash', 'tools/dist_train.sh', config, 2, '--work-dir', work_dir),
        *('--total-batch', 4),
    )
    assert result.returncode == 0, result.stderr
    assert 'total batch 4 = 2 process(es) x 2 images' in result.stdout
    assert result.stdout.count('SyncBN needs CUDA') == 1
    assert result.stdout.count('epoch 2/2 [2/2]') == 1
    # Digits only: neither nan nor inf.
    losses = re.findall(r'\]  loss (\S+) \(image', result.stdout)
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
    )
    assert result.returncode == 1
    said = 'error: Only this process cannot find its data.' in result.stderr
    reported = re.search(rf'rank +: {rank} ', result.stderr)
    assert said or reported
    if rank == 0:
        assert said


@pytest.mark.parametrize(
    ('env', 'expected'),
    [
        ({}, ['--standalone']),
        (
            dict(NNODES='3', NODE_RANK='2', MASTER_ADDR='node0', PORT='29511'),
            ['--nnodes', '3', '--node-rank', '2', '--master-addr', 'node0']
            + ['--master-port', '29511'],
        ),
        (
            dict(PORT='1234'),
            ['--nnodes', '1', '--node-rank', '0', '--master-addr']
            + ['127.0.0.1', '--master-port', '1234'],
        ),
        (
            dict(NNODES='2', MASTER_ADDR='node0'),
            ['--nnodes', '2', '--node-rank', '0', '--master-addr', 'node0']
            + ['--master-port', '29500'],
        ),
    ],
)
def test_torchrun_gets_the_nodes(tmp_path, monkeypatch, env, expected):
    for name in ('NNODES', 'NODE_RANK', 'MASTER_ADDR', 'PORT'):
        monkeypatch.delenv(name, raising=False)
    fake = tmp_path / 'python'
    fake.write_text('#!/bin/sh\nshift 1\nprintf "%s\\n" "$@"\n')
    fake.chmod(0o755)
    result = run(
        *('bash', 'tools/dist_train.sh', 'a b.py', 4, '--resume'),
        *('--cfg-options', 'a.b=[1, 2]'),
        PYTHON=str(fake),
        **env,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.splitlines() == [
        *expected,
        *('--nproc-per-node', '4', f'{ROOT}/tools/train.py'),
        *('--launcher', 'pytorch', 'a b.py', '--resume'),
        *('--cfg-options', 'a.b=[1, 2]'),
    ]


def test_slurm_gets_what_it_needs(tmp_path, config):
    fake = tmp_path / 'srun'
    fake.write_text(
        '#!/bin/sh\nprintf "%s\\n" "$@"\necho "threads $OMP_NUM_THREADS"\n'
    )
    fake.chmod(0o755)
    result = run(
        *('bash', 'tools/slurm_train.sh', 'part', 'job', config, 16),
        *('--resume', '--cfg-options', 'a.b=1'),
        PATH=f'{tmp_path}:{os.environ["PATH"]}',
        GPUS_PER_NODE='4',
        CPUS_PER_TASK='6',
        SRUN_ARGS='--quotatype spot',
        OMP_NUM_THREADS='',
    )
    assert result.returncode == 0, result.stderr
    words = result.stdout.split('\n')
    for option, value in {
        '--partition': 'part',
        '--job-name': 'job',
        '--ntasks': '16',
        '--ntasks-per-node': '4',
        '--gres': 'gpu:4',
        '--cpus-per-task': '6',
        '--quotatype': 'spot',
    }.items():
        assert words[words.index(option) + 1] == value
    tail = words[words.index(sys.executable) :]
    assert tail[1:4] == ['-u', f'{ROOT}/tools/train.py', str(config)]
    assert tail[4:9] == [
        *('--launcher', 'slurm', '--resume', '--cfg-options', 'a.b=1')
    ]
    assert 'threads 6' in words


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
    def install(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'#!/bin/sh\n{text}\n')
        path.chmod(0o755)

    install('.venv/bin/python', 'echo the one in .venv')
    install('bin/mine', 'echo the named one')
    install('bin/python3', 'echo the active one')
    # The command begins after srun's last option.
    install('bin/srun', 'while [ "$2" != -u ]; do shift; done; exec "$@"')
    (tmp_path / 'tools').mkdir()
    for name in (script, 'launch.sh'):
        shutil.copy(ROOT / 'tools' / name, tmp_path / 'tools')
    names = ('PYTHON', 'VIRTUAL_ENV', 'CONDA_PREFIX')
    env = {k: v for k, v in os.environ.items() if k not in names}
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


@pytest.mark.parametrize('gpus', ['one', '0', '--resume'])
def test_number_of_processes_is_checked(gpus):
    result = run('bash', 'tools/dist_train.sh', DEMO, gpus)
    assert result.returncode == 2
    said = f"error: GPUS is the number of processes to start, not '{gpus}'."
    assert result.stderr.strip() == said


def test_wrong_arguments_end_with_the_usage_alone():
    result = run('bash', 'tools/dist_train.sh', DEMO, 1, '--pretraned', 'x')
    assert result.returncode == 2
    assert 'error: unrecognized arguments: --pretraned x' in result.stderr
    assert 'Traceback' not in result.stderr
    assert 'elastic' not in result.stderr


def test_spaces_around_the_sign_of_equality(tool, capsys):
    with pytest.raises(SystemExit):
        tool.parse_args(['c.py', '--cfg-options', 'data_root', '=', '/x'])
    assert 'key=value, without spaces' in capsys.readouterr().err


ERRORS = {
    'no config': (['configs/pretrain/pixcon_r18_dem.py'], f'mean {DEMO!r}?'),
    'top-level typo': ('dataroot=/x', "Did you mean 'data_root'?"),
    'nested into nothing': ('model.hed.channels=1', "no 'model.hed'"),
    'not a dict': ('train_cfg.max_epochs.x=1', "'train_cfg.max_epochs' is 8"),
    'no such entry': ('param_scheduler.7.end=1', 'entry of a list of 1'),
    'lost variable': ('epochs=3', 'train_cfg.max_epochs'),
    'model key': ('model.queue_length=3', "PixCon a key 'queue_length'"),
    'head key': ('model.head.reweigth=None', "mean 'reweight'?"),
    'dataset key': (
        'train_dataloader.dataset.extension=png',
        "SceneImageDataset a key 'extension'",
    ),
    'hook key': ('default_hooks.logger.intervall=2', "mean 'interval'?"),
    'model type': ('model.backbone.type=ResNt', "mean 'ResNet'?"),
    'hook type': ('default_hooks.logger.type=LogerHook', "mean 'LoggerHook'?"),
    'no folder': ('data_root=/no/such/folder', "'/no/such/folder'"),
    'no checkpoint': (['--resume', '/no/file.pth'], "'/no/file.pth'"),
    'odd batch': (
        ['--total-batch', 7, '--cfg-options']
        + ['optim_wrapper.accumulative_counts=2'],
        'a multiple of 2',
    ),
}


@pytest.mark.parametrize('case', ERRORS)
def test_mistakes_give_a_sentence(case, tool, monkeypatch, capsys, tmp_path):
    options, words = ERRORS[case]
    if isinstance(options, str):
        options = ['--cfg-options', options]
    arguments = options if case == 'no config' else [DEMO, *options]
    code, shown = failure(
        tool, monkeypatch, capsys, *arguments, '--work-dir', tmp_path
    )
    assert code == 1
    assert words in shown
    assert shown.startswith('error: ')
    assert shown.count('error: ') == 1
    assert 'Traceback' not in shown


def test_empty_folder(tool, monkeypatch, capsys, tmp_path):
    (tmp_path / 'empty').mkdir()
    code, shown = failure(
        *(tool, monkeypatch, capsys, DEMO, '--work-dir', tmp_path / 'work'),
        *('--cfg-options', f'data_root={tmp_path / "empty"}'),
    )
    assert code == 1
    assert f"'{tmp_path}/empty'" in shown
    assert 'hold no image' in shown


def test_single_view_pipeline(tool, monkeypatch, capsys, tmp_path):
    images = write_pictures(tmp_path / 'images', 4)
    path = tmp_path / 'single.py'
    path.write_text(
        f"_base_ = '{ROOT / DEMO}'\n"
        'train_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(\n'
        f"    data_root='{images}', pipeline=[\n"
        "        dict(type='LoadSceneImage'),\n"
        "        dict(type='RandomResizedCrop', scale=32),\n"
        "        dict(type='PackInputs')]))\n"
        'model = dict(queue_len=8)\n'
    )
    code, shown = failure(
        tool, monkeypatch, capsys, path, '--work-dir', tmp_path / 'work'
    )
    assert code == 1
    assert 'error: PixCon needs two views of each image' in shown
    assert 'PackTwoViewInputs' in shown
    assert 'Traceback' not in shown


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('a = dict(\n', "'(' was never closed"),
        ("_base_ = './gone.py'\n", 'gone.py'),
        ('a = 1\n', "it has no 'model'"),
    ],
)
def test_broken_config_files(text, words, tool, monkeypatch, capsys, tmp_path):
    path = tmp_path / 'broken.py'
    path.write_text(text)
    code, shown = failure(tool, monkeypatch, capsys, path)
    assert code == 1
    assert words in shown
    assert str(path) in shown


@pytest.mark.slow
def test_exit_codes_and_traceback_of_the_real_thing(config):
    wrong = ('--cfg-options', 'sizes=3')
    result = train(config, *wrong)
    assert result.returncode == 1
    assert result.stderr == (
        "error: --cfg-options sizes: the config has no 'sizes'. "
        "Did you mean 'size'?\n"
    )
    result = train(config, *wrong, PIXCON_MM_TRACEBACK='1')
    assert result.returncode == 1
    assert 'Traceback' in result.stderr


def test_unknown_option(tool, monkeypatch, capsys):
    code, shown = failure(tool, monkeypatch, capsys, DEMO, '--no-such-one')
    assert code == 2
    assert 'unrecognized arguments: --no-such-one' in shown


@pytest.mark.parametrize(
    ('value', 'expected'), [('/a', '/a'), ('/a,/b', ['/a', '/b'])]
)
def test_data_root_reaches_the_loader(tool, monkeypatch, value, expected):
    monkeypatch.chdir(ROOT)
    for name in ('pixcon_r50_coco', 'pixcon_r50_coco-plus', 'byol_r50_coco'):
        args = tool.parse_args(
            [f'configs/pretrain/{name}.py', '--cfg-options']
            + [f'data_root={value}']
        )
        cfg = tool.prepare(args)
        assert cfg.train_dataloader.dataset.data_root == expected


def test_overrides_reach_namesakes_that_held_the_value(tmp_path):
    path = tmp_path / 'c.py'
    path.write_text(
        "root = 'old'\n"
        'norm = dict(type="BN")\n'
        'model = dict(root=root, other=root, neck=dict(norm=norm))\n'
        'val_dataloader = dict(dataset=[dict(root=root), dict(root="mine")])\n'
    )
    cfg = load_config(str(path), {'root': 'new', 'norm.type': 'SyncBN'})
    assert cfg.model == dict(
        root='new', other='old', neck=dict(norm=dict(type='SyncBN'))
    )
    assert [d.root for d in cfg.val_dataloader.dataset] == ['new', 'mine']
    explicit = {'root': 'new', 'model.root': 'given'}
    assert load_config(str(path), explicit).model.root == 'given'
    assert load_config(str(path), {'root': 'old'}).model.root == 'old'


def test_new_keys_that_the_runner_reads_are_fine(config):
    cfg = load_config(str(config), {'compile': True, 'load_from': 'x.pth'})
    assert cfg.compile is True
    assert cfg.load_from == 'x.pth'


@pytest.mark.parametrize(
    ('launcher', 'variable'),
    [
        ('pytorch', 'WORLD_SIZE'),
        ('slurm', 'SLURM_NTASKS'),
        ('mpi', 'OMPI_COMM_WORLD_SIZE'),
    ],
)
def test_total_batch_is_shared(tool, monkeypatch, launcher, variable):
    monkeypatch.setenv(variable, '4')
    cfg = Config(dict(train_dataloader={}, optim_wrapper={}))
    tool.share_batch(cfg, 512, tool.world_size(launcher))
    assert cfg.train_dataloader.batch_size == 128
    cfg.optim_wrapper.accumulative_counts = 2
    tool.share_batch(cfg, 512, tool.world_size(launcher))
    assert cfg.train_dataloader.batch_size == 64
    with pytest.raises(UserError, match='a multiple of 8'):
        tool.share_batch(cfg, 36, tool.world_size(launcher))


def test_options_change_the_config(tool, config):
    given = ['--amp', '--auto-scale-lr', '--no-validate', '--no-pin-memory']
    cfg = tool.prepare(tool.parse_args([str(config), *given]))
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    assert cfg.auto_scale_lr.enable
    assert cfg.val_cfg is None
    assert cfg.train_dataloader.pin_memory is False
    assert cfg.train_dataloader.persistent_workers is False
    assert cfg.work_dir == 'work_dirs/toy'


@pytest.mark.parametrize('spelling', ['--local_rank', '--local-rank'])
def test_both_spellings_of_the_rank(tool, monkeypatch, spelling):
    monkeypatch.delenv('LOCAL_RANK', raising=False)
    tool.parse_args(['c.py', f'{spelling}=3'])
    assert os.environ.pop('LOCAL_RANK') == '3'


def test_loaders_of_stock_configs(tool, tmp_path):
    path = tmp_path / 'stock.py'
    path.write_text(
        "default_scope = 'mmpretrain'\nmodel = dict(type='X')\n"
        'optim_wrapper = dict(optimizer={})\ntrain_cfg = dict(max_epochs=1)\n'
        'train_dataloader = dict(num_workers=2)\n'
    )
    cfg = tool.prepare(tool.parse_args([str(path)]))
    assert cfg.train_dataloader.collate_fn == dict(type='default_collate')
    assert cfg.train_dataloader.persistent_workers is True
