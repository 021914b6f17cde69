"""The training program as users call it, on CPU, with a toy model."""

import re
from contextlib import nullcontext

import pytest
import torch
from mmengine.config import Config
from PIL import Image

from pixcon_mm.errors import UserError
from pixcon_mm.tools import train
from tests import ROOT, recipes
from tests.commands import run
from tests.test_datasets.pictures import write_pictures

DEMO = 'configs/pretrain/pixcon_r18_demo.py'


@pytest.fixture
def fail(call, monkeypatch):
    """Run the program from the repository; returns its one sentence."""
    monkeypatch.chdir(ROOT)

    def _fail(*words):
        status, _, shown = call(train.main, *words)
        assert status == 1
        assert shown.startswith('error: ')
        assert shown.count('error: ') == 1
        assert 'Traceback' not in shown
        return shown

    return _fail


def start(config, *options, **env):
    return run(
        *('tools/train.py', config, '--work-dir', config.parent / 'work'),
        *options,
        **env,
    )


def prepare(*words):
    return train.prepare(train.parse_args([str(word) for word in words]))


@pytest.mark.slow
def test_trains_resumes_and_says_where(config):
    first = start(config)
    assert first.returncode == 0, first.stderr
    work_dir = config.parent / 'work'
    assert (work_dir / 'epoch_2.pth').is_file()
    second = start(
        config, '--resume', '--cfg-options', 'train_cfg.max_epochs=3'
    )
    assert second.returncode == 0, second.stderr
    assert re.search(r'resumed epoch 2, iter 8, lr \d', second.stdout)
    assert 'epoch 3/3 [4/4]' in second.stdout
    assert 'epoch 2/3' not in second.stdout
    named = start(
        config, *('--resume', work_dir / 'epoch_1.pth', '--local-rank', '0')
    )
    assert re.search(r'resumed epoch 1, iter 4, lr \d', named.stdout)


@pytest.mark.parametrize(('number', 'claims'), [('0', 1), ('1', 0)])
@pytest.mark.parametrize('resumes', [False, True])
def test_one_process_claims_the_work_dir_for_all(
    monkeypatch, config, number, claims, resumes
):
    claimed = []

    def claim(folder, resumes, overwrite):
        claimed.append((folder, resumes, overwrite))
        return nullcontext()

    monkeypatch.setenv('SLURM_PROCID', number)
    monkeypatch.setattr(train, 'claim', claim)
    monkeypatch.setattr(train, 'build_runner', lambda cfg: 1 / 0)
    words = ['--launcher', 'slurm', '--work-dir', str(config.parent)]
    # Resuming can be asked for in the config as well.
    words += ['--cfg-options', 'resume=True'] if resumes else []
    with pytest.raises(ZeroDivisionError):
        train.main([str(config), *words])
    assert claimed == [(config.parent, resumes, False)] * claims


@pytest.mark.slow
def test_an_earlier_run_is_moved_when_the_new_one_can_start(config):
    work = config.parent / 'work'
    work.mkdir()
    (work / 'epoch_9.pth').write_bytes(b'of an earlier run')
    wrong = 'optim_wrapper.optimizer.type=SDG'
    failed = start(config, '--overwrite', '--cfg-options', wrong)
    assert 'did you mean' in failed.stderr.lower()
    assert (work / 'epoch_9.pth').exists()
    done = start(config, '--overwrite')
    assert done.returncode == 0, done.stderr
    assert 'The earlier run is now in' in done.stdout
    assert (work / 'old-1/epoch_9.pth').read_bytes() == b'of an earlier run'
    assert (work / 'epoch_2.pth').exists()
    # The log of the run that failed has moved, too.
    assert len([*work.glob('*/*.log')]) == 1
    assert len([*work.glob('old-1/*/*.log')]) == 1


@pytest.mark.parametrize(
    ('words', 'sentence'),
    [
        ('--overwrite --resume', 'exclude each other'),
        ('--overwrite --cfg-options resume=True', 'exclude each other'),
        ('--pretrained b.pth --cfg-options load_from=a.pth', 'leave out one'),
        # Also in a run that is resumed once it has a checkpoint.
        (
            '--pretrained b.pth --resume --cfg-options load_from=a.pth',
            'leave out one of them',
        ),
        ('--quick --resume', 'sets the length'),
        ('--quick --epochs 3', 'sets the length'),
        ('--quick --total-batch 8', 'sets the length'),
    ],
)
def test_options_that_exclude_each_other(config, words, sentence):
    with pytest.raises(UserError, match=sentence):
        prepare(config, *words.split())


@pytest.mark.parametrize('option', ['--epochs', '--total-batch'])
@pytest.mark.parametrize('number', ['0', '-512', '1.5'])
def test_numbers_below_one_are_refused(option, number, capsys):
    with pytest.raises(SystemExit):
        train.parse_args(['c.py', option, number])
    words = f"{option}: '{number}' is not an integer of at least 1"
    assert words in capsys.readouterr().err


ERRORS = {
    'config': (['configs/pretrain/pixcon_r18_dem.py'], f'mean {DEMO!r}?'),
    'model key': ('model.queue_length=3', "PixCon a key 'queue_length'"),
    'weights': (
        'load_from=s3://a/b.pth',
        'local files: download s3://a/b.pth',
    ),
    'loader key': ('train_dataloader.threads=3', "DataLoader a key 'threads"),
    'loader typo': ('train_dataloader.batchsize=3', "mean 'batch_size'?"),
    'hook key': ('default_hooks.logger.intervall=2', "mean 'interval'?"),
    'loop key': ('train_cfg.max_epoch=2', "mean 'max_epochs'?"),
    'scheduler key': ('param_scheduler.1.tmax=3', "key 'tmax'"),
    'model type': ('model.backbone.type=ResNt', "mean 'ResNet'?"),
    'optimiser type': ('optim_wrapper.optimizer.type=SDG', "mean 'SGD'"),
}


@pytest.mark.parametrize('case', ERRORS)
def test_mistakes_give_a_sentence(case, fail, tmp_path):
    words, sentence = ERRORS[case]
    if isinstance(words, str):
        images = write_pictures(tmp_path / 'images', 64)
        options = [f'data_root={images}', 'model.queue_len=64', words]
        words = [DEMO, '--cfg-options', *options]
    assert sentence in fail(*words, '--work-dir', tmp_path / 'work')


def test_a_step_without_a_type_is_named(fail, tmp_path):
    """A list in a config file replaces that of its base."""
    images = write_pictures(tmp_path / 'images', 64)
    path = tmp_path / 'own.py'
    path.write_text(
        f"_base_ = '{ROOT / DEMO}'\n"
        f"data_root = '{images}'\n"
        'train_dataloader = dict(dataset=dict(pipeline=[dict(scale=96)]))\n'
    )
    shown = fail(path, '--work-dir', tmp_path / 'work')
    assert "has no type: {'scale': 96}. In a config file, a list" in shown


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('a = dict(\n', "'(' was never closed"),
        ("_base_ = './gone.py'\n", 'gone.py'),
        ('a = 1\n', "it has no 'model'"),
    ],
)
def test_broken_config_files(text, words, fail, tmp_path):
    path = tmp_path / 'broken.py'
    path.write_text(text)
    shown = fail(path)
    assert words in shown
    assert str(path) in shown


def test_total_batch_is_shared():
    cfg = Config(dict(train_dataloader={}, optim_wrapper={}))
    train.share_batch(cfg, 512, 4)
    assert cfg.train_dataloader.batch_size == 128
    cfg.optim_wrapper.accumulative_counts = 2
    train.share_batch(cfg, 512, 4)
    assert cfg.train_dataloader.batch_size == 64
    with pytest.raises(UserError, match='a multiple of 8'):
        train.share_batch(cfg, 36, 4)


def test_options_change_the_config(config):
    options = ['--amp', '--auto-scale-lr', '--no-validate']
    cfg = prepare(config, *options, '--epochs', 4)
    assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
    assert cfg.auto_scale_lr.enable
    assert cfg.val_cfg is None
    assert cfg.train_dataloader.persistent_workers is False
    assert cfg.work_dir == 'work_dirs/toy'
    assert cfg.train_cfg.max_epochs == 4
    (scheduler,) = cfg.param_scheduler
    assert (scheduler.T_max, scheduler.end) == (4, 4)


def test_loaders_of_stock_configs(tmp_path):
    path = tmp_path / 'stock.py'
    path.write_text(
        "default_scope = 'mmpretrain'\nmodel = dict(type='X')\n"
        'optim_wrapper = dict(optimizer={})\ntrain_cfg = dict(max_epochs=1)\n'
        'train_dataloader = dict(num_workers=2)\n'
    )
    cfg = prepare(path)
    assert cfg.train_dataloader.collate_fn == dict(type='default_collate')
    assert cfg.train_dataloader.persistent_workers is True


def fine_tune(monkeypatch, config, folder, *options, iterations=1):
    """Train and validate after each iteration, in this process."""
    monkeypatch.setattr(train, 'kill_workers', lambda: None)
    words = [config, '--work-dir', folder, '--pretrained', 'none', *options]
    shorter = [f'train_cfg.max_iters={iterations}', 'train_cfg.val_interval=1']
    train.main([*map(str, words), '--cfg-options', *shorter])


def test_a_fine_tuning_ends_with_metrics_and_a_picture(
    segmentor, tmp_path, monkeypatch, capsys
):
    fine_tune(monkeypatch, segmentor[0], tmp_path)
    *_, title, accuracy, iou, _, last = capsys.readouterr().out.splitlines()
    assert title.split() == ['metric', 'percent']
    assert re.fullmatch(r'aAcc +\d+\.\d\d', accuracy)
    assert re.fullmatch(r'mIoU +\d+\.\d\d', iou)
    (log,) = tmp_path.glob('*/*.log')
    assert 'backbone: random weights' in log.read_text()
    picture = tmp_path / 'predictions.jpg'
    assert last == f'4 predictions beside the truth in {picture}'
    assert Image.open(picture).size[1] > 1000


def test_a_picture_that_fails_loses_nothing(
    segmentor, tmp_path, monkeypatch, capsys
):
    def fail(*args, **kwargs):
        raise RuntimeError('no colours left')

    monkeypatch.setattr(train, 'write_sheet', fail)
    fine_tune(monkeypatch, segmentor[0], tmp_path, '--no-validate')
    out, shown = capsys.readouterr()
    assert 'no picture of predictions: RuntimeError: no colours left' in shown
    assert 'mIoU' not in out
    assert [*tmp_path.glob('iter_1.pth')]


def test_metrics_of_an_earlier_iteration_are_not_the_result(
    segmentor, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(train, 'write_sheet', lambda *_, **__: 0)
    shown = []
    for options in ([], ['--resume'], ['--resume', '--no-validate']):
        fine_tune(monkeypatch, segmentor[0], tmp_path, *options, iterations=2)
        lines = capsys.readouterr().out.splitlines()
        shown.append([line for line in lines if re.match('mIoU +', line)])
    assert len(shown[0]) == 1
    assert shown[1:] == [shown[0], []]


@pytest.mark.slow
def test_two_processes_draw_one_picture(segmentor, tmp_path):
    result = run(
        *('bash', 'tools/dist_train.sh', segmentor[0], '2'),
        *('--pretrained', 'none', '--work-dir', tmp_path),
        *('--cfg-options', 'train_cfg.max_iters=1'),
        CUDA_VISIBLE_DEVICES='',
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count('4 predictions beside the truth in') == 1
    assert (tmp_path / 'predictions.jpg').is_file()


@pytest.mark.parametrize('name', ['missing.pth', 'other.pth'])
def test_weights_that_do_not_fit_leave_the_work_dir_alone(
    name, segmentor, tmp_path
):
    torch.save({'other.weight': torch.zeros(2, 2)}, tmp_path / 'other.pth')
    work = tmp_path / 'work'
    work.mkdir()
    (work / 'iter_1.pth').touch()
    source = str(tmp_path / name)
    words = [segmentor[0], '--pretrained', source, '--work-dir', work]
    with pytest.raises(UserError, match=name):
        train.main([*map(str, words), '--overwrite'])
    assert [path.name for path in work.iterdir()] == ['iter_1.pth']


def test_pretrained_keeps_other_settings_of_the_hook():
    cfg = recipes.load('detection/mask-rcnn_convnext-t-fpn_1x_coco')
    layers = cfg.default_hooks.pretrained.new_layers
    train.set_pretrained(cfg, 'FILE')
    assert cfg.default_hooks.pretrained == dict(
        type='PretrainedHook', source='FILE', new_layers=layers
    )
