"""Class names reach everything that follows from them, or stop the start."""

import mmdet.datasets  # noqa: F401
import mmseg.datasets  # noqa: F401
import pytest
from mmengine.config import Config

from pixcon_mm import cli
from pixcon_mm.classes import as_names, colours, compare_trained, datasets
from pixcon_mm.config import load_config
from pixcon_mm.errors import UserError
from tests.commands import sentence_of
from tests.recipes import list_recipes, path_of

FINETUNE = list_recipes('*tion')
COCO = 'detection/mask-rcnn_r50-fpn_2x_coco'


def heads(cfg):
    """The heads of a model that tell classes apart."""
    parts = (cfg.model, cfg.model.get('roi_head', {}))
    names = ('bbox_head', 'mask_head', 'decode_head', 'auxiliary_head')
    found = [part.get(name) for part in parts for name in names]
    return [head for head in found if head]


def child(tmp_path, text, base=COCO, name='child'):
    path = tmp_path / f'{name}.py'
    path.write_text(f'_base_ = {path_of(base)!r}\n{text}\n')
    return str(path)


def check(cfg, names):
    assert cfg.classes == names
    assert {head.num_classes for head in heads(cfg)} == {len(names)}
    infos = [dataset.metainfo for _, dataset in datasets(cfg)]
    assert len(infos) >= 3
    for info in infos:
        assert info.classes == names
        assert len(info.palette) == len(names)


@pytest.mark.parametrize('names', [('helmet',), ('hard hat', 'vest')])
@pytest.mark.parametrize('name', FINETUNE)
def test_an_option_reaches_every_part(name, names):
    check(load_config(path_of(name), {'classes': names}), names)


@pytest.mark.parametrize('name', [COCO, *(n for n in FINETUNE if 'voc' in n)])
def test_a_child_config_reaches_every_part(name, tmp_path):
    names = ('a', 'b', 'c')
    text = f'classes = {names}\ndata_root = "/x/"'
    parent = child(tmp_path, text, name, 'parent')
    assert 'data/' not in str(load_config(parent)._cfg_dict)
    check(load_config(parent), names)
    # A file between them, and an option on top.
    path = tmp_path / 'last.py'
    path.write_text("_base_ = './parent.py'\nresume = True\n")
    check(load_config(str(path)), names)
    check(load_config(str(path), {'classes': 'one'}), ('one',))


def test_values_of_a_child_config_count(tmp_path):
    text = (
        "classes = ('a', 'b')\nmetainfo = dict(classes=classes)\n"
        'palette = [[1, 2, 3], [4, 5, 6]]\n'
        'heads = dict(bbox_head=dict(num_classes=2))\n'
        'model = dict(roi_head=heads)\n'
        'train_dataloader = dict(dataset=dict(\n'
        '    metainfo=dict(classes=classes, palette=palette)))\n'
    )
    cfg = load_config(child(tmp_path, text))
    assert cfg.train_dataloader.dataset.metainfo.palette[1] == [4, 5, 6]
    assert {head.num_classes for head in heads(cfg)} == {2}


DISAGREEMENTS = [
    (
        {'model.roi_head.bbox_head.num_classes': 2},
        'model.roi_head.bbox_head.num_classes is 2, but the config has 80',
    ),
    (
        {'classes': ('a', 'b'), 'model.roi_head.mask_head.num_classes': 3},
        'model.roi_head.mask_head.num_classes is 3, but the config has 2 '
        'class names (a, b)',
    ),
    (
        {'train_dataloader.dataset.metainfo.classes': ('a', 'b')},
        'The CocoDataset of train_dataloader has 2 class names (a, b)',
    ),
    (
        {'val_dataloader.dataset.metainfo.classes': ['a']},
        'The CocoDataset of val_dataloader has 1 class name (a) in its '
        'metainfo, but the config has 80 class names (person, bicycle, car, '
        'motorcycle, ...)',
    ),
    (
        {'test_dataloader.dataset.metainfo.palette': [[0, 0, 0]]},
        'The CocoDataset of test_dataloader has 1 colours',
    ),
    (
        {'val_evaluator.ann_file': '/other.json'},
        'val_evaluator reads /other.json, but val_dataloader reads data/coco/',
    ),
    ({'classes': [3]}, 'classes = (3,) has no class names'),
    ({'classes': ('a', 'b', 'a')}, 'a name twice: a.'),
]


@pytest.mark.parametrize(('options', 'words'), DISAGREEMENTS)
def test_disagreement_is_one_sentence(options, words):
    sentence = sentence_of(load_config, path_of(COCO), options)
    assert words in sentence
    assert '\n' not in sentence


@pytest.mark.parametrize(
    ('key', 'place'),
    [
        ('model.decode_head', 'model.decode_head'),
        ('model.auxiliary_head', 'model.auxiliary_head'),
        ('val_evaluator', 'val_evaluator'),
        ('train_dataloader.dataset', 'The MaskFolderDataset of train_dataloa'),
    ],
)
def test_all_parts_ignore_the_same_pixels(key, place):
    path = path_of('segmentation/fcn_r50-d8_custom')
    options = {'classes': ('a', 'b'), f'{key}.ignore_index': 255}
    load_config(path, options)
    options[f'{key}.ignore_index'] = 0
    sentence = sentence_of(load_config, path, options)
    assert place in sentence
    assert 'ignore_index=0: leave it out.' in sentence


def test_a_head_without_a_number_is_found(tmp_path):
    """MMDetection would take its default of 80."""
    text = (
        "classes = ('a',)\nmodel = dict(roi_head=dict(\n"
        "    bbox_head=dict(_delete_=True, type='Shared2FCBBoxHead')))"
    )
    with pytest.raises(UserError, match='bbox_head.num_classes is None'):
        load_config(child(tmp_path, text))


def arguments(*words):
    return cli.parse(
        cli.argparse.ArgumentParser(), ['--cfg-options', *words]
    ).cfg_options


@pytest.mark.parametrize(
    ('word', 'value'),
    [
        ('classes=helmet,vest', ('helmet', 'vest')),
        ('classes=helmet', ('helmet',)),
        ('classes=hard hat, safety vest', ('hard hat', 'safety vest')),
        ("classes=('1', '2')", ('1', '2')),
        ('classes=[1,true]', ('1', 'true')),
        ("classes=['hat, hard', 'vest']", ('hat, hard', 'vest')),
        ("classes=it's,x", ("it's", 'x')),
        ('classes=van,car (parked)', ('van', 'car (parked)')),
        ('classes=(old) van,car (new)', ('(old) van', 'car (new)')),
        ('classes=[car (parked), van]', ('car (parked)', 'van')),
        ('classes=(7)', ('7',)),
        ('data_root=/my images/', '/my images/'),
        ('a=/my images/, /b', ['/my images/', '/b']),
        ('a=[(1, 2), (3.5, None)]', [(1, 2), (3.5, None)]),
        ('a= 1', 1),
    ],
)
def test_values_of_the_command_line(word, value):
    assert arguments(word) == {word.partition('=')[0]: value}


def prepare(name, **options):
    words = [f'{key}={value}' for key, value in options.items()]
    parser = cli.argparse.ArgumentParser()
    parser.add_argument('config')
    args = cli.parse(parser, [path_of(name), '--cfg-options', *words])
    return cli.prepare_config(args, 'work')


@pytest.mark.parametrize('name', [n for n in FINETUNE if '_custom' in n])
def test_own_data_need_names(name):
    with pytest.raises(UserError, match='has no class names yet'):
        prepare(name, data_root='/x/')
    assert prepare(name, classes='a,b').classes == ('a', 'b')


def test_masks_of_a_benchmark_have_its_classes():
    name = 'segmentation/fcn_r50-d8_80k_ade20k'
    assert prepare(name, classes='wall,sky').classes == ('wall', 'sky')
    sentence = sentence_of(prepare, name, classes='wall,helmet')
    assert 'do not include helmet' in sentence
    assert 'fcn_r50-d8_custom.py' in sentence


def test_one_class_can_be_detected_and_not_segmented():
    name = 'detection/mask-rcnn_r50-fpn_custom_coco'
    assert prepare(name, classes='a').classes == ('a',)
    with pytest.raises(UserError, match='classes=background,crack'):
        prepare('segmentation/fcn_r50-d8_custom', classes='crack')


def test_mask_values_of_a_child_config_reach_the_data_sets(tmp_path):
    text = "classes = ('a', 'b')\nmask_values = (7, 9)"
    path = child(tmp_path, text, 'segmentation/fcn_r50-d8_custom')
    for options, values in (({}, (7, 9)), (dict(mask_values=[1, 2]), (1, 2))):
        cfg = load_config(path, options)
        for loader in (cfg.train_dataloader, cfg.test_dataloader):
            assert loader.dataset.mask_values == values


def test_names_of_a_checkpoint_in_another_order_stop():
    cfg = Config(dict(classes=('a', 'b')))
    assert compare_trained(cfg, ('a', 'b'), 'FILE') is None
    assert compare_trained(cfg, (), 'FILE') is None
    assert compare_trained(Config(), ('a',), 'FILE') is None
    warning = compare_trained(cfg, ('a', 'c'), 'FILE')
    assert "Class 1 is 'c' in FILE and 'b' in the config" in warning
    with pytest.raises(UserError, match='order of the checkpoint, b, a'):
        compare_trained(cfg, ['b', 'a'], 'FILE')


def test_names_and_colours():
    assert as_names(['a', 'b']) == ('a', 'b')
    shades = colours(200)
    assert len({*map(tuple, shades)}) == 200
    assert all(0 <= part <= 255 for shade in shades for part in shade)
