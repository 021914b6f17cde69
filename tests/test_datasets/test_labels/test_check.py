"""Whole configs: which data sets are checked, the cache, the tools."""

import json
import os
from unittest.mock import Mock

import numpy as np
import pytest

from pixcon_mm import progress
from pixcon_mm.checkpoint.load import Weights
from pixcon_mm.cli import import_framework
from pixcon_mm.data_paths import LOADERS, leaves
from pixcon_mm.datasets.labels import check, check_labels, find_problems
from pixcon_mm.datasets.labels.sources import find_sources
from pixcon_mm.errors import UserError
from pixcon_mm.tools import check_data, test, train
from tests import benchmarks, recipes
from tests.commands import sentence_of

COCO = 'detection/mask-rcnn_r50-fpn_1x_coco'
VOC_AUG = 'segmentation/fcn-d6_r50-d16_30k_voc12aug'
KINDS = {
    COCO: 'coco',
    'detection/mask-rcnn_r50-fpn_24k_cityscapes': 'coco',
    'detection/faster-rcnn_r50-c4_24k_voc0712': 'voc',
    'segmentation/fcn_r50-d8_80k_ade20k': 'masks',
    'segmentation/deeplabv3_r50-d8_20k_coco-stuff10k': 'masks',
    'segmentation/fcn_r50-d8_30k_pascal-context': 'masks',
    'segmentation/fcn_r50-d8_40k_cityscapes': 'masks',
    VOC_AUG: 'masks',
}
TRAIN = ('train_dataloader',)


def load(name, root):
    cfg = recipes.load(name, {'data_root': root})
    import_framework(cfg.default_scope)
    return cfg


@pytest.fixture
def coco(tmp_path):
    """COCO's config with four small images in each set."""
    cfg = load(COCO, f'{tmp_path}/data/')
    benchmarks.write_data(cfg, tmp_path / 'data')
    return cfg


@pytest.fixture
def annotations(tmp_path):
    """Change COCO's file of the images to train on, or to validate."""

    def _annotations(change, name='train'):
        path = tmp_path / f'data/annotations/instances_{name}2017.json'
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
        return path

    return _annotations


@pytest.mark.parametrize('name', KINDS)
def test_the_sets_of_every_benchmark(name, tmp_path):
    cfg = load(name, f'{tmp_path}/data/')
    benchmarks.write_data(cfg, tmp_path / 'data')
    sources = [*find_sources(cfg, LOADERS, None)]
    assert {source.kind for source in sources} == {KINDS[name]}
    assert [s.trains for s in sources].count(False) == 2
    assert [s.needs_masks for s in sources] == ['mask-rcnn' in name] * len(
        sources
    )
    found = find_problems(cfg, LOADERS)
    assert 'stop' not in {level for level, _ in found}
    # Rectangles of two classes.
    odd = [sentence for level, sentence in found if level == 'warning']
    assert len(odd) == 1
    assert 'have no label' in odd[0]


def test_wrappers_are_opened_and_joined(tmp_path):
    cfg = load(VOC_AUG, f'{tmp_path}/data/')
    benchmarks.write_data(cfg, tmp_path / 'data')
    inner = cfg.train_dataloader.dataset
    cfg.train_dataloader.dataset = dict(
        type='RepeatDataset', times=2, dataset=inner
    )
    sources = [*find_sources(cfg, TRAIN, None)]
    assert [source.num_classes for source in sources] == [21, 21]
    # A class that only one of the parts has is not missing.
    _, second = leaves(inner)
    masks = tmp_path / 'data' / second.data_prefix.seg_map_path
    others = np.array([0, *range(2, 21)], np.uint8)
    for path in masks.iterdir():
        benchmarks.write(path, np.tile(others, (64, 5))[:, :96])
    assert 'no label' not in str(find_problems(cfg, TRAIN))


def test_other_data_sets_are_left_alone(tmp_path):
    cfg = load(COCO, 's3://coco/')
    assert find_problems(cfg, TRAIN) == []
    cfg.train_dataloader.dataset.update(
        data_root='', data_prefix=dict(img='s3://coco/train2017/')
    )
    assert find_problems(cfg, TRAIN) == []
    cfg = load('pretrain/pixcon_r18_demo', f'{tmp_path}')
    assert find_problems(cfg, TRAIN) == []
    cfg = load(COCO, f'{tmp_path}')
    # The runner says that the last one is unknown.
    for kind in ('CocoPanopticDataset', 'LVISV1Dataset', 'NoSuchDataset'):
        cfg.train_dataloader.dataset.type = kind
        assert find_problems(cfg, TRAIN) == []


@pytest.mark.parametrize(
    ('name', 'classes', 'words'),
    [
        (COCO, 'helmet', "classes=('helmet',) with the comma"),
        (VOC_AUG, ('helmet', 'vest'), "type='BaseSegDataset'"),
    ],
)
def test_class_names_that_cannot_be_used(name, classes, words, tmp_path):
    cfg = load(name, f'{tmp_path}/')
    for part in leaves(cfg.train_dataloader.dataset):
        part.metainfo = dict(classes=classes)
    ((level, sentence),) = find_problems(cfg, TRAIN)
    assert level == 'stop'
    assert words in sentence


def reverse(content):
    content['categories'].reverse()


def shorten(content):
    del content['categories'][0]
    del content['annotations'][0::2]


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        (reverse, 'are in another order than the class names'),
        (shorten, "no category has the class name 'person'"),
    ],
)
def test_files_that_number_the_classes_differently(
    change, words, coco, annotations
):
    path = annotations(change, 'val')
    found = find_problems(coco, LOADERS)
    (sentence,) = (text for level, text in found if level == 'stop')
    assert sentence.startswith(f'{path}: ')
    assert words in sentence


def test_data_sets_with_different_class_names(coco, annotations):
    annotations(reverse, 'val')
    for loader in ('val_dataloader', 'test_dataloader'):
        info = coco[loader].dataset.metainfo
        info['classes'] = info['classes'][::-1]
    found = find_problems(coco, LOADERS)
    stops = [text for level, text in found if level == 'stop']
    assert len(stops) == 2
    assert stops[0].startswith("Class 0 is 'person' in train_dataloader and ")


def test_findings_are_cached_until_a_file_changes(
    coco, annotations, monkeypatch, tmp_path
):
    calls = []
    real = check.CHECKS['coco']
    monkeypatch.setitem(
        check.CHECKS, 'coco', lambda *args: (calls.append(1), real(*args))
    )

    def count_checks():
        calls.clear()
        found = find_problems(coco, TRAIN)
        return len(calls), found

    count, first = count_checks()
    assert count == 1
    assert count_checks() == (0, first)
    path = annotations(lambda content: content['images'].pop())
    count, second = count_checks()
    assert count == 1
    assert second != first
    assert count_checks()[0] == 0
    os.utime(path, ns=(1, 1))
    assert count_checks()[0] == 1
    next((tmp_path / 'data/train2017').iterdir()).unlink()
    count, third = count_checks()
    assert count == 1
    assert 'is not there' in str(third)
    coco.train_dataloader.dataset.metainfo = dict(classes=('person',))
    assert count_checks()[0] == 1
    for other in (tmp_path / 'cache/labels').iterdir():
        other.write_text('{"found":')
    assert count_checks()[0] == 1


def test_a_copy_with_the_time_of_the_original_is_another_file(
    coco, annotations
):
    path = annotations(lambda content: None)
    find_problems(coco, TRAIN)
    state, text = path.stat(), path.read_text()
    path.write_text(text.replace('"person"', '"pirate"'))
    os.utime(path, ns=(state.st_atime_ns, state.st_mtime_ns))
    assert path.stat().st_size == state.st_size
    assert 'pirate' in str(find_problems(coco, TRAIN))


def test_a_data_set_that_stops_a_run_is_checked_again(coco, monkeypatch):
    """A storage that was away does not change its files."""
    away = Mock(side_effect=UserError('the storage is away'))
    with monkeypatch.context() as patch:
        patch.setitem(check.CHECKS, 'coco', away)
        assert 'away' in str(find_problems(coco, TRAIN))
    assert 'stop' not in dict(find_problems(coco, TRAIN))


@pytest.mark.parametrize('has_home', [False, True])
def test_a_cache_that_cannot_be_written_is_not_a_failure(
    coco, monkeypatch, tmp_path, has_home
):
    if has_home:
        (tmp_path / 'file').touch()
        monkeypatch.setenv('PIXCON_MM_CACHE', str(tmp_path / 'file'))
    else:
        error = RuntimeError('Could not determine home directory.')
        monkeypatch.delenv('PIXCON_MM_CACHE')
        monkeypatch.setattr(check.Path, 'home', Mock(side_effect=error))
    found = find_problems(coco, TRAIN)
    assert 'stop' not in dict(found)
    assert find_problems(coco, TRAIN) == found


def test_a_run_is_stopped_by_the_first_certain_failure(
    coco, annotations, capsys
):
    check_labels(coco, LOADERS)
    shown = capsys.readouterr()
    assert shown.out.count('labels: ') >= 2
    assert shown.err.count('warning: ') == 1

    def change(content):
        content['annotations'][0]['segmentation'] = []
        content['annotations'][1]['bbox'] = [0, 0, 0, 0]

    path = annotations(change)
    sentence = sentence_of(check_labels, coco, LOADERS)
    assert sentence.startswith(f'{path}: 1 of 7 annotations has no segment')
    assert f'tools/check_data.py {coco.filename}' in sentence
    assert '1 of 8 boxes has no area' in capsys.readouterr().err


@pytest.fixture
def words(coco, tmp_path):
    """Words that name COCO's config and the small images."""
    return (
        recipes.path_of(COCO),
        *('--cfg-options', f'data_root={tmp_path}/data/'),
    )


def run(tool, *words):
    """Run a tool's main; returns its status."""
    try:
        tool.main([*words])
    except SystemExit as end:
        return end.code
    return 0


def test_the_tool_lists_everything(words, annotations, tmp_path, capsys):
    assert run(check_data, *words) == 0
    shown = capsys.readouterr().out
    assert shown.endswith('0 problems would end a run; 1 warning.\n')
    annotations(lambda content: content['annotations'][0].pop('area'))
    annotations(lambda content: content.pop('images'), 'val')
    assert run(check_data, words[0], '--all', *words[1:]) == 1
    shown = capsys.readouterr().out
    assert shown.count('\nstop: ') + shown.startswith('stop: ') == 2
    assert shown.endswith('2 problems would end a run; 0 warnings.\n')
    (tmp_path / 'other.py').write_text('')
    assert run(check_data, str(tmp_path / 'other.py')) == 0
    assert 'no data that this tool checks' in capsys.readouterr().out


class Started(Exception):
    """What the run would do next was reached."""


@pytest.fixture(params=['train', 'test'])
def start(request, words, tmp_path, monkeypatch):
    """Start training or testing, up to where the runner is built."""

    def _build(cfg):
        raise Started

    tool = dict(train=train, test=test)[request.param]
    monkeypatch.setattr(tool, 'build_runner', _build)
    config, *options = words
    if tool is train:
        config = [config, '--pretrained', 'none']
    else:
        nothing = Weights({}, [], {}, {})
        monkeypatch.setattr(tool, 'load_weights', lambda path: nothing)
        config = [config, 'x.pth']
    config += ['--work-dir', str(tmp_path / 'work')]
    return lambda *more: tool.main([*config, *more, *options])


def test_runs_start_with_a_check_that_can_be_switched_off(
    start, annotations, monkeypatch
):
    with pytest.raises(Started):
        start()
    annotations(lambda content: content['images'][0].pop('height'), 'val')
    with pytest.raises(UserError, match="1 of 4 images has no 'height'"):
        start()
    with pytest.raises(Started):
        start('--no-label-check')
    # The first process checks for all.
    monkeypatch.setenv('SLURM_PROCID', '1')
    with pytest.raises(Started):
        start('--launcher', 'slurm')


@pytest.mark.parametrize(('seconds', 'shown'), [(0.0, True), (60.0, False)])
def test_a_bar_appears_when_it_takes_long(seconds, shown, monkeypatch, capsys):
    monkeypatch.setattr(progress, 'DELAY', seconds)
    monkeypatch.setattr('sys.stderr.isatty', lambda: True)
    monkeypatch.setenv('FORCE_COLOR', '1')
    assert [*progress.with_progress(range(40), 40, 'masks')] == [*range(40)]
    assert ('masks' in capsys.readouterr().err) == shown
