"""Tests of the tables, links and Python examples of README.md and docs/."""

import math
import re
import shutil
from importlib.util import find_spec

import pytest
import torch
from mmpretrain.registry import TRANSFORMS
from torchvision.models import resnet50

from pixcon_mm.config import load_config
from pixcon_mm.tools import export_backbone
from tests import ROOT
from tests.commands import run
from tests.recipes import CONFIGS, load
from tests.test_datasets.pictures import write_pictures
from tests.test_readme import PAGES

TEXTS = {page.relative_to(ROOT).as_posix(): page.read_text() for page in PAGES}
PYTHON = re.compile(r'```python\n(.*?)```', re.S)
APART = (
    'docs/channels_last_on_cpu.md',  # it shows a crash
    'docs/exporting.md',  # its code reads what its commands write
)
EXAMPLES = [
    (page, code)
    for page, text in TEXTS.items()
    if page not in APART
    for code in PYTHON.findall(text)
]


def rows(page):
    """Return the rows of tables that begin with a config: cells by name."""
    found = re.findall(r'^\| `(\w+/)?(\S+\.py)` \|(.*) \|$', TEXTS[page], re.M)
    return {name: cells.split(' | ') for _, name, cells in found}


def write_checkpoint(path):
    state = resnet50().state_dict(prefix='backbone.')
    del state['backbone.fc.weight'], state['backbone.fc.bias']
    torch.save(dict(state_dict=state), path)


def number(text):
    return int(text.removesuffix(' epochs').replace('k', '000'))


@pytest.mark.parametrize(
    ('page', 'folders'), [('pretraining', 'pretrain'), ('transfer', '*tion')]
)
def test_configs_are_those_of_the_table(page, folders):
    table = rows(f'docs/{page}.md')
    paths = {path.name: path for path in CONFIGS.glob(f'{folders}/*.py')}
    assert set(table) == set(paths)
    for name, (*_, length, batch) in table.items():
        cfg = load_config(str(paths[name]))
        train, batches = cfg.train_cfg, map(int, re.findall(r'\d+', batch))
        assert train.get('max_epochs', train.get('max_iters')) == number(
            length
        )
        assert cfg.auto_scale_lr.base_batch_size == math.prod(batches), name


def cells(page):
    """Return the cells of all tables of a page, by the first of their row."""
    found = re.findall(r'^\| (.*?) \| (.*) \|$', TEXTS[page], re.M)
    return {name: others.split(' | ') for name, others in found}


def numbers(text):
    found = re.findall(r'\d[\d,]*(?:\.\d+)?(?:e-\d+)?', text)
    return [float(word.replace(',', '')) for word in found]


def test_the_main_recipe_is_that_of_the_method():
    table = cells('docs/method.md')
    cfg = load('pretrain/pixcon_r50_coco')
    model, loader = cfg.model, cfg.train_dataloader
    neck, head = model.neck, model.head
    optimizer = cfg.optim_wrapper.optimizer
    assert table['precision'][0].startswith(cfg.optim_wrapper.dtype)
    for name, found in {
        '$B$': [loader.batch_size, cfg.auto_scale_lr.base_batch_size],
        '$C$': [neck.out_channels],
        '$D$': [neck.in_channels],
        '$K$': [model.queue_len],
        '$\\tau$': [head.loss.temperature],
        '$\\lambda$': [model.loss_lambda],
        '$p$': [head.reweight.power],
        '$m$': [1 - model.base_momentum, 1 - model.end_momentum],
        'length': [cfg.train_cfg.max_epochs],
        'optimiser': [optimizer.momentum, optimizer.weight_decay],
        'learning rate': [optimizer.lr],
        'warm-up': [cfg.param_scheduler[0].end],
        'seed': [cfg.randomness.seed],
        'projector $g$': [
            *(neck.in_channels, neck.hid_channels),
            *(neck.hid_channels, neck.out_channels),
        ],
        'predictors $h_g$, $h_d$': [
            *(head.channels, head.hid_channels),
            *(head.hid_channels, head.channels),
        ],
    }.items():
        expected = numbers(table[name][0])[: len(found)]
        assert found == pytest.approx(expected), name
    for part in (model.backbone, neck, head):
        assert part.norm_cfg.type == 'SyncBN'
    # All norms start from scale 1.
    assert model.backbone.zero_init_residual is False


CROPS = re.compile(
    r'uniformly from (\S+) to (\S+) of the image.*?'
    r'from (\d)/(\d) to (\d)/(\d).*?up to (\d+) times.*?'
    r'at least (\d+) %.*?to (\d+) x (\d+) pixels.*?probability ([\d.]+)',
    re.S,
)


@pytest.mark.parametrize('name', ['pixcon_r50', 'pixcon_r50_cpu-aug'])
def test_crops_are_those_of_the_method(name):
    cfg = load(f'pretrain/{name}_coco')
    _, crop, flip, *_ = cfg.train_dataloader.dataset.pipeline
    crop, flip = TRANSFORMS.build(crop), TRANSFORMS.build(flip)
    text = CROPS.search(TEXTS['docs/method.md'])
    low, high, *ratio, tries, percent, width, height, prob = map(
        float, text.groups()
    )
    assert crop.area_range == pytest.approx((low, high))
    aspects = ratio[0] / ratio[1], ratio[2] / ratio[3]
    assert crop.aspect_range == pytest.approx(aspects)
    assert crop.max_tries == tries
    assert crop.min_overlap == percent / 100
    assert crop.on_no_overlap == 'skip'
    assert crop.scale == (width, height)
    assert flip.prob == prob


PROPERTIES = ('brightness', 'contrast', 'saturation', 'hue')


def test_colours_are_those_of_the_method():
    """On the device as in the loader."""
    table = {
        re.split('[,:]', name)[0]: (name, *probabilities)
        for name, probabilities in cells('docs/method.md').items()
    }
    steps = ('colour jitter', 'greyscale', 'Gaussian blur', 'solarisation')
    names = ('RandomApply', 'RandomGrayscale', 'GaussianBlur', 'Solarize')
    blur = numbers(table['Gaussian blur'][0])
    text = TEXTS['docs/method.md']
    lowest = re.findall(r'\$\[(0\.\d), 1\.\d\]\$', text)
    (hue,) = re.findall(r'up to ([\d.]+) turn', text)
    strengths = [*(1 - float(low) for low in lowest), float(hue)]
    ours, theirs = (
        load(f'pretrain/{name}_coco').train_dataloader.dataset.pipeline[3]
        for name in ('pixcon_r50', 'pixcon_r50_cpu-aug')
    )
    for i, (view, transforms) in enumerate(
        zip(ours.views, theirs.transforms, strict=True), 1
    ):
        expected = [*numbers(' '.join(table[step][i] for step in steps))]
        loader = {step.type: step for step in transforms}
        assert expected == [
            *(view.jitter, view.grayscale, view.blur, view.solarize)
        ]
        assert expected == [loader.get(n, {}).get('prob', 0) for n in names]
        (jitter,) = loader['RandomApply'].transforms
        for settings in (view, jitter):
            found = [settings[name] for name in PROPERTIES]
            assert found == pytest.approx(strengths)
        assert [*view.sigma] == blur
        assert [*loader['GaussianBlur'].magnitude_range] == blur


@pytest.mark.parametrize('task', ['detection', 'segmentation'])
def test_configs_are_those_of_the_protocols(task):
    table = rows('docs/method.md')
    for path in CONFIGS.glob(f'{task}/*_r50-*.py'):
        cfg = load_config(str(path))
        if 'max_epochs' in cfg.train_cfg:
            continue  # protocols count iterations
        _, _, batch, rate, iterations, *_ = table[path.name]
        optimizer, schedule = cfg.optim_wrapper.optimizer, cfg.param_scheduler
        lr, *decay = map(float, rate.split(', '))
        assert optimizer.lr == lr, path
        assert optimizer.weight_decay == (decay or [1e-4])[0], path
        assert cfg.auto_scale_lr.base_batch_size == int(batch), path
        length, *steps = map(number, re.findall(r'\d+k', iterations))
        assert cfg.train_cfg.max_iters == length, path
        assert list(schedule[-1].get('milestones', [])) == steps, path
        assert (schedule[-1].type == 'PolyLR') == ('poly' in iterations), path


@pytest.mark.parametrize('page', TEXTS)
def test_links_lead_somewhere(page):
    for link in re.findall(r'\]\((?!https?:|#)([^)#]+)', TEXTS[page]):
        assert (ROOT / page).parent.joinpath(link).exists(), link


@pytest.mark.parametrize(
    ('page', 'code'), EXAMPLES, ids=[page for page, _ in EXAMPLES]
)
def test_python_examples_run(page, code, tmp_path, monkeypatch, request):
    monkeypatch.chdir(tmp_path)
    if code.startswith("_base_ = './"):  # a config of the reader's own
        own = tmp_path / 'own.py'
        own.write_text(code.replace("'./", f"'{CONFIGS}/pretrain/"))
        cfg = load_config(str(own))
        if 'jitter' in code:
            pipeline = cfg.train_dataloader.dataset.pipeline
            assert pipeline[1].scale == 192
            assert [view.jitter for view in pipeline[3].views] == [0.4, 0.4]
        return
    if 'Inferencer' in code:
        name = 'detector' if 'DetInferencer' in code else 'segmentor'
        for path in request.getfixturevalue(name):
            shutil.copy(path, path.name)
        shutil.copy(ROOT / 'docs/method_picture.jpg', 'photo.jpg')
    (tmp_path / 'configs').symlink_to(CONFIGS)
    for name in re.findall(r"'((?:data|work_dirs)/[^']+)'", code):
        path = tmp_path / name
        path.parent.mkdir(parents=True)
        if path.suffix == '.jpg':
            shutil.copy(ROOT / 'docs/method_picture.jpg', path)
        elif path.suffix == '.txt':
            path.write_text('a.jpg\n"caf\\udcc3\\udca9.jpg"\n')
        else:
            write_checkpoint(path)
    exec(code, names := {})
    if 'from_line' in names:
        assert names['names'] == [b'a.jpg', 'café.jpg'.encode()]
    # The scaling table of speed.md is what the page's code gives.
    row = r'^\| (\d+), (one|eight) machines? \| \S+ \| (\d+) \| (\S+) \|'
    for gpus, machines, batch, share in re.findall(row, TEXTS[page], re.M):
        gpu_links = (200, 20) if machines == 'one' else (25, 50)
        value = names['efficiency'](int(batch), int(gpus), *gpu_links)
        assert f'{value:.2f}' == share


@pytest.mark.slow
def test_exports_are_read_as_shown(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / 'work_dirs/pixcon_r50_coco/epoch_800.pth'
    path.parent.mkdir(parents=True)
    write_checkpoint(path)
    page = TEXTS['docs/exporting.md']
    has_onnx = find_spec('onnxruntime') is not None
    exports = re.findall(r'^python tools/export_backbone.py (.*)$', page, re.M)
    for words in exports:
        if has_onnx or 'onnx' not in words:
            export_backbone.main(words.split())
    for code in PYTHON.findall(page):
        if has_onnx or 'onnx' not in code:
            exec(code, {})


@pytest.mark.slow
@pytest.mark.parametrize('negatives', ['means', 'cells'])
def test_the_queue_takes_on_the_direction_of_keys(tmp_path, negatives):
    """The table of docs/early_training.py, on a few pictures."""
    images = write_pictures(tmp_path / 'images', 8)
    done = run(
        'docs/early_training.py',
        'configs/pretrain/pixcon_r18-w32_small.py',
        *('--iterations', 5, '--every', 4, '--negatives', negatives),
        *('--cfg-options', f'data_root={images}', 'model.queue_len=16'),
        *('train_dataloader.batch_size=4', 'train_dataloader.num_workers=0'),
        'train_dataloader.persistent_workers=False',
    )
    assert done.returncode == 0, done.stderr
    lines = [x.split(' | ') for x in done.stdout.splitlines() if ' | ' in x]
    header, *rows = lines
    assert [row[0] for row in rows] == ['0', '4']
    table = torch.tensor([[*map(float, row)] for row in rows])
    assert table.isfinite().all()
    first, last = (dict(zip(header, row, strict=True)) for row in table)
    assert first['R queue'] < last['R queue'] <= 1
    # A cell has less of the common direction than a mean of cells.
    is_mean = last['R enqueued'] > last['R cells'] + 0.1
    assert is_mean == (negatives == 'means')
