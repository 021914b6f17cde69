"""Overrides of a config arrive, or are refused with a sentence."""

import textwrap

import pytest

from pixcon_mm import config
from pixcon_mm.config import load_config
from pixcon_mm.errors import UserError
from reproduction.runs import flatten
from tests.commands import sentence_of, touch

BASE = """
    data_root = 'old/'
    model = dict(
        type='Net',
        data_preprocessor=dict(type='Preprocessor'),
        test_cfg=dict(norm_decay=1, norm1_decay=1),
        head=dict(type='Head', channels=8),
    )
    env_cfg = dict(cudnn_benchmark=True)
    train_dataloader = dict(
        dataset=dict(data_root=data_root),
        extra=[dict(data_root=data_root), dict(data_root='theirs/')],
    )
    param_scheduler = [dict(end=4), dict(end=800)]
"""


@pytest.fixture
def path(tmp_path):
    (tmp_path / 'base.py').write_text(textwrap.dedent(BASE))
    path = tmp_path / 'recipe.py'
    path.write_text("_base_ = './base.py'\n")
    return path


@pytest.mark.parametrize('value', ['new/', ['a/', 'b/'], None])
def test_variable_reaches_nested_keys_that_held_it(path, value):
    cfg = load_config(str(path), {'data_root': value})
    assert cfg.data_root == value
    assert cfg.train_dataloader.dataset.data_root == value
    assert [part.data_root for part in cfg.train_dataloader.extra] == [
        value,
        'theirs/',
    ]


@pytest.mark.parametrize('slash', ['/', ''])
def test_folder_reaches_the_paths_below_it(path, slash):
    path.write_text(
        f"data_root = 'data/coco{slash}'\n"
        'train_dataloader = dict(dataset=dict(data_root=data_root))\n'
        "val_evaluator = [dict(ann_file='data/coco/val.json', "
        "other='elsewhere/data/coco/val.json')]\n"
    )
    # The last one is below the old one.
    for folder in ('/images/coco', '/images/coco/', 'data/coco/mini'):
        cfg = load_config(str(path), {'data_root': folder})
        assert cfg.train_dataloader.dataset.data_root == folder
        assert cfg.val_evaluator == [
            dict(
                ann_file=f'{folder.rstrip("/")}/val.json',
                other='elsewhere/data/coco/val.json',
            )
        ]


CROPPED = """
    crop_size = (512, 1024)
    model = dict(size=crop_size, other=(512, 1024), norm=8)
    train_dataloader = dict(pipeline=[dict(crop_size=crop_size)])
"""


@pytest.mark.parametrize('suffix', ['py', 'yaml', 'json'])
def test_a_file_that_builds_on_a_dumped_config(path, suffix):
    dumped = path.with_name(f'dumped.{suffix}')
    load_config(str(path)).dump(dumped)
    path.write_text(f"_base_ = './{dumped.name}'\ndata_root = 'new/'\n")
    cfg = load_config(str(path))
    assert cfg.train_dataloader.dataset.data_root == 'new/'


def test_crop_size_reaches_the_preprocessor_and_the_pipeline(path):
    path.with_name('base.py').write_text(textwrap.dedent(CROPPED))
    # From the command line a tuple is easily a list.
    for value in ((64, 64), [64, 64]):
        cfg = load_config(str(path), {'crop_size': value})
        assert cfg.crop_size == cfg.model.size == (64, 64)
        assert isinstance(cfg.model.size, tuple)
        assert cfg.train_dataloader.pipeline[0].crop_size == (64, 64)
        assert cfg.model.other == (512, 1024)
    path.write_text("_base_ = './base.py'\ncrop_size = (64, 64)\n")
    cfg = load_config(str(path))
    assert cfg.model.size == (64, 64)
    assert cfg.train_dataloader.pipeline[0].crop_size == (64, 64)
    with path.open('a') as file:
        file.write('model = dict(size=crop_size)\n')
    cfg = load_config(str(path))
    # The file itself says where it belongs.
    assert cfg.train_dataloader.pipeline[0].crop_size == (512, 1024)


def test_places_do_not_share_a_new_value(path):
    path.write_text(
        'mask_values = [1]\n'
        'model = dict(mask_values=mask_values, a=dict(mask_values=[1]))\n'
    )
    cfg = load_config(str(path), {'mask_values': [2]})
    cfg.model.a.mask_values.append(3)
    assert cfg.model.mask_values == cfg.mask_values == [2]


@pytest.mark.parametrize('key', ['scale', 'view1.jitter', 'steps.0.at'])
def test_other_variables_are_not_changed_alone(path, key):
    text = """
        scale = (8, 8)
        view1 = dict(jitter=0.8, blur=1.0)
        view2 = dict(view1, blur=0.1)
        steps = [dict(type='Resize', at=scale)]
        model = dict(size=scale, views=[view1, view2], steps=steps)
    """
    path.write_text(textwrap.dedent(text))
    sentence = sentence_of(load_config, str(path), {key: (4, 4)})
    name = key.split('.')[0]
    where = dict(scale='model.size', view1='model.views.0')
    places = where.get(name, 'model.steps')
    assert sentence.startswith(f'--cfg-options {name}: ')
    assert f'instead (these have the same value: {places}' in sentence


VARIABLES = """
    scale, padding_mode, epochs = (8, 8), 'reflect', 8
    unused, step = 3, dict(type='Resize', scale=scale)
    model = dict(size=scale, conv=dict(padding_mode=padding_mode))
    train_cfg = dict(max_epochs=epochs)
    train_dataloader = dict(pipeline=[step])
    val_dataloader = dict(pipeline=[step])
"""


@pytest.mark.parametrize(
    ('text', 'key', 'value'),
    [
        ("padding_mode = 'zeros'", 'model.conv.padding_mode', 'zeros'),
        ('scale = (4, 4)', 'model.size', None),
        ('epochs = 9', 'train_cfg.max_epochs', None),
        ("step = dict(type='A', _delete_=True)", 'pipeline.0', None),
        ('scale = (4, 4)\nmodel = dict(size=[*scale])', 'model.size', [4, 4]),
        (
            "model = dict(size=_base_['scale'] + (1,))\nscale = (4, 4)",
            'model.size',
            [8, 8, 1],
        ),
        ('del _base_.scale', 'model.size', [8, 8]),
        ('unused = 4', 'unused', 4),
        ('epochs = 8', 'epochs', 8),
    ],
)
@pytest.mark.parametrize('levels', [1, 2])
def test_a_file_changes_variables_with_effect(path, levels, text, key, value):
    path.with_name('base.py').write_text(textwrap.dedent(VARIABLES))
    child = path.with_name('child.py')
    child.write_text(f"_base_ = './base.py'\n{text}\n")
    if levels == 2:
        path.write_text("_base_ = './child.py'\n")
        child = path
    if value is not None:
        assert flatten(load_config(str(child)).to_dict())[key] == value
        return
    sentence = sentence_of(load_config, str(child))
    assert sentence.startswith(f"Config file '{child}': the config has alre")
    assert key in sentence


@pytest.mark.parametrize(
    ('key', 'value'),
    [
        ('train_dataloader.dataset.data_root', 'new/'),  # not the variable
        ('param_scheduler.1.end', 200),
        ('model.head.power', 2),  # a new argument of an object
        ('model.test_cfg.bias_decay', 2),
        ('model.test_cfg.norm2_decay', 2),
    ],
)
def test_an_option_changes_its_own_key_alone(path, key, value):
    before, after = (
        flatten(load_config(str(path), options).to_dict())
        for options in (None, {key: value})
    )
    assert after == {**before, key: value}


def test_new_object_needs_its_type(path):
    new = {'model.neck.type': 'Neck', 'model.neck.width': 3}
    for options in (new, dict(reversed(new.items()))):
        cfg = load_config(str(path), options)
        assert cfg.model.neck == dict(type='Neck', width=3)
    with pytest.raises(UserError, match="config has no 'model.neck'"):
        load_config(str(path), {'model.neck.width': 3})


@pytest.mark.parametrize(
    ('key', 'words'),
    [
        ('data_rot', "no 'data_rot'. Did you mean 'data_root'?"),
        ('work_dirr', "no 'work_dirr'. Did you mean 'work_dir'?"),
        ('zzzzzz', "the config has no 'zzzzzz'."),
        ('model.haed.channels', "'model.haed'. Did you mean 'head'?"),
        ('param_scheduler.2.end', "'param_scheduler.2' does not exist"),
        ('param_scheduler.end', "'param_scheduler.end' does not exist"),
        ('launcher', "the config has no 'launcher'."),
        ('env_cfg.cudnn_benchmrk', "Did you mean 'cudnn_benchmark'?"),
        ('data_preprocessor.mean', 'so write model.data_preprocessor.mean.'),
        ('model.type.name', "'model.type' is 'Net' in the config"),
    ],
)
def test_options_that_would_be_lost(path, key, words):
    sentence = sentence_of(load_config, str(path), {key: 1})
    assert sentence.startswith(f'--cfg-options {key}: ')
    assert words in sentence
    assert f'mean {key!r}' not in sentence


@pytest.mark.parametrize('value', [8, 0.5])
def test_a_number_does_not_replace_a_list(path, value):
    path.write_text('model = dict(size=(8, 8), steps=[dict(at=[1, 2])])\n')
    for key in ('model.size', 'model.steps.0.at'):
        sentence = sentence_of(load_config, str(path), {key: value})
        assert 'write a list like that, not a number.' in sentence
    cfg = load_config(str(path), {'model.size': None})
    assert cfg.model.size is None


def test_variable_used_under_another_name_is_refused(path):
    path.write_text('epochs = 3\ntrain_cfg = dict(max_epochs=epochs)\n')
    sentence = sentence_of(load_config, str(path), {'epochs': 5})
    assert sentence.endswith(
        '(these have the same value: train_cfg.max_epochs).'
    )
    assert load_config(str(path), {'epochs': 3}).epochs == 3


@pytest.mark.parametrize('name', ['lost.py', 'lost'])
def test_a_base_that_is_missing(path, name):
    path.write_text(f"_base_ = './{name}'\n")
    sentence = sentence_of(load_config, str(path))
    assert 'builds on a file that does not exist: ' in sentence
    assert name in sentence


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('train_dataloder = dict(x=2)', "'train_dataloder', which nothing re"),
        ('optim_wraper = 1', "Did you mean 'optim_wrapper'?"),
        ('x = 1 / 0', 'cannot be evaluated: ZeroDivisionError: division by z'),
        ('param_scheduler = dict(end=3)', 'cannot be evaluated: TypeError: '),
    ],
)
def test_mistakes_in_a_file(path, text, words):
    path.write_text(f"_base_ = './base.py'\n{text}\n")
    assert words in sentence_of(load_config, str(path))


def test_names_of_variables_are_free(path):
    with path.open('a') as file:
        file.write('my_loader = dict(batch_size=2)\n')
        file.write('optim_wraper = 3\nmodel = dict(steps=optim_wraper)\n')
    assert load_config(str(path)).model.steps == 3


def test_a_checkpoint_in_place_of_a_config(path):
    checkpoint = path.rename(path.with_suffix('.pth'))
    sentence = sentence_of(load_config, str(checkpoint))
    assert sentence.startswith(f"Config file '{checkpoint}': Only py")


def test_module_of_the_file_that_cannot_be_imported(path):
    path.write_text("custom_imports = dict(imports=['no_such_module'])\n")
    with pytest.raises(UserError, match='imports a module that fails'):
        load_config(str(path))


@pytest.fixture
def shipped(tmp_path, monkeypatch):
    """Return a folder of recipes, as an installed wheel has it."""
    folder = tmp_path / 'shipped'
    touch(folder, 'pretrain/recipe_r50.py', '_base_/runtime.py')
    monkeypatch.setattr(config, 'SHIPPED', folder)
    monkeypatch.chdir(tmp_path)
    return folder


def test_a_shipped_recipe_needs_only_its_name(shipped, tmp_path):
    cfg = load_config('recipe_r50.py')
    assert cfg.filename == str(shipped / 'pretrain/recipe_r50.py')
    # A file of that name comes first.
    (tmp_path / 'recipe_r50.py').write_text('lr = 2')
    assert load_config('recipe_r50.py').lr == 2


@pytest.mark.parametrize(
    'name', ['runtime.py', 'other/recipe_r50.py', 'recipe_r5.py']
)
def test_a_name_that_is_not_a_shipped_recipe_is_not_found(shipped, name):
    sentence = sentence_of(load_config, name)
    assert 'no config file' in sentence
    hint = "Did you mean 'recipe_r50.py'?" in sentence
    assert hint == (name == 'recipe_r5.py')
