"""Listing, broken images, and views that depend on (seed, epoch, index)."""

import contextlib
import os
import time
from functools import partial
from types import SimpleNamespace

import pytest
import torch
from mmengine.dataset import default_collate, worker_init_fn
from mmengine.registry import DefaultScope
from mmpretrain.registry import DATASETS
from torch.utils._pytree import tree_leaves
from torch.utils.data import DataLoader

from pixcon_mm.config import load_config
from pixcon_mm.datasets import loading, storage
from pixcon_mm.engine.seeded_loading import KeyedBatches, SeededLoading
from pixcon_mm.errors import UserError
from pixcon_mm.files import as_line
from tests import ROOT
from tests.commands import sentence_of, touch
from tests.test_datasets.pictures import broken_files, write_pictures

# Whose random numbers come from every generator.
RECIPE = ROOT / 'configs/pretrain/pixcon_r50_cpu-aug_coco.py'
PIPELINE = load_config(str(RECIPE)).to_dict()['train_dataloader']['dataset'][
    'pipeline'
]
PIPELINE[1]['scale'] = 16


def build(data_root, pipeline=PIPELINE, **options):
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return DATASETS.build(
            dict(
                type='SceneImageDataset',
                data_root=data_root,
                pipeline=pipeline,
                **options,
            )
        )


def names(dataset):
    paths = (dataset.get_data_info(i)['img_path'] for i in range(len(dataset)))
    return [os.path.basename(path) for path in paths]


# ---- listing -------------------------------------------------------------


@pytest.mark.parametrize(
    ('files', 'roots', 'options', 'expected'),
    [
        # All subfolders, in order; nothing hidden and no other kind.
        (
            'b/2.PNG b/1.jpg a.JPeG c/d/e.tiff notes.txt b/._1.jpg '
            '.trash/x.jpg c/jpg z.jpg.part',
            '',
            {},
            'a.JPeG b/1.jpg b/2.PNG c/d/e.tiff',
        ),
        # Several folders, in the order given; an image counts once.
        (
            'a/2.jpg a/1.jpg b/0.jpg',
            ['b/', 'a'],
            {},
            'b/0.jpg a/1.jpg a/2.jpg',
        ),
        ('a/1.jpg b/2.jpg', ['b', ''], {}, 'b/2.jpg a/1.jpg'),
        ('a/1.jpg b/2.jpg', ['', 'a'], {}, 'a/1.jpg b/2.jpg'),
        (
            '1.jpg 2.JP2 3.gif',
            '',
            dict(extensions=('jp2', '.GIF')),
            '2.JP2 3.gif',
        ),
        ('1.jpg 3.gif', '', dict(extensions='.gif'), '3.gif'),
    ],
)
def test_images_that_are_listed(tmp_path, files, roots, options, expected):
    touch(tmp_path, *files.split())
    if isinstance(roots, str):
        root = str(tmp_path)
    else:
        root = [f'{tmp_path}/{folder}' for folder in roots]
    dataset = build(root, **options)
    found = [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]
    found = [os.path.relpath(path, tmp_path) for path in found]
    assert found == expected.split()


def test_links_are_followed_and_circles_end(tmp_path):
    touch(tmp_path, 'disk/deep/1.jpg', 'disk/2.jpg')
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data/coco').symlink_to(tmp_path / 'disk')
    (tmp_path / 'disk/deep/up').symlink_to(tmp_path / 'disk')
    (tmp_path / 'disk/self').symlink_to('.')
    assert names(build(str(tmp_path / 'data'))) == ['2.jpg', '1.jpg']
    assert names(build(str(tmp_path / 'data/coco'))) == ['2.jpg', '1.jpg']


def test_indices_keep_the_first_images(tmp_path):
    touch(tmp_path, *(f'{i}.jpg' for i in range(5)))
    assert names(build(str(tmp_path), indices=2)) == ['0.jpg', '1.jpg']
    dataset = build(str(tmp_path), indices=[3, 1])
    assert names(dataset) == ['3.jpg', '1.jpg']
    assert len(dataset.broken) == 2
    subset = dataset.get_subset(1)
    dataset.get_subset_([1])
    assert (names(subset), names(dataset)) == (['3.jpg'], ['1.jpg'])
    assert len(subset.broken) == len(dataset.broken) == 1


def test_a_list_names_the_images(tmp_path):
    files = ['b/1.jpg', 'a/2.jpg', 'a/3.jpg', ' caf\udce9.jpg', 'no.suffix']
    folder = touch(tmp_path, *(f'images/{file}' for file in files)) / 'images'
    touch(tmp_path, 'elsewhere.png')
    elsewhere = str(tmp_path / 'elsewhere.png')
    lines = [*files, elsewhere, '', 'b/1.jpg', './b//1.jpg']
    text = '\r\n'.join(map(as_line, lines))  # as Windows writes it
    (tmp_path / 'list.txt').write_text(text, 'utf-8-sig')
    expected = [*(f'{folder}/{file}' for file in files), elsewhere]
    for file in (str(tmp_path / 'list.txt'), '../list.txt'):
        dataset = build(str(folder), ann_file=file)
        found = [dataset.get_data_info(i) for i in range(len(dataset))]
        assert [info['img_path'] for info in found] == expected
        assert len(dataset.broken) == len(expected)


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        (None, r'list.txt cannot be read .*No such file.*absolute path'),
        (b'\xff.jpg', r'list.txt cannot be read .*invalid start byte'),
        (b'"1.jpg', r'list.txt cannot be read .*Unterminated string'),
        (b'\n\n', r'list.txt is empty: write'),
        (
            b'1.jpg\nb/2.jpg\nb\n',
            r'list.txt lists 3 images, of which 2 cannot be found; the first '
            r'is .*/b/2.jpg: paths must',
        ),
    ],
)
def test_a_list_that_cannot_be_used_is_refused(tmp_path, text, words):
    touch(tmp_path, '1.jpg', 'b/3.jpg')
    if text is not None:
        (tmp_path / 'list.txt').write_bytes(text)
    with pytest.raises(UserError, match=words):
        build(str(tmp_path), ann_file='list.txt')


def test_a_list_needs_one_folder(tmp_path):
    folders = [str(touch(tmp_path, f'{i}/1.jpg') / i) for i in 'ab']
    with pytest.raises(UserError, match='of one data_root, and 2 are given'):
        build(folders, ann_file='list.txt')


@pytest.mark.parametrize('many', [False, True])
def test_missing_folder_shows_the_tree(tmp_path, many):
    here = touch(tmp_path, 'here/1.jpg') / 'here'
    gone = str(tmp_path / 'gone')
    message = sentence_of(build, [str(here), gone] if many else gone)
    first, *tree = message.splitlines()
    assert first == f'Image folder {gone!r} does not exist.'
    assert 'train2017/' in message
    assert '000000000009.jpg' in message
    assert tree[-1].endswith('--cfg-options data_root=/path/to/images')


@pytest.mark.parametrize(
    ('root', 'words'),
    [
        (None, 'No image folder is given'),
        ([], 'No image folder is given'),
        (__file__, 'test_scene_images.py.* is not a folder'),
    ],
)
def test_a_path_that_is_not_a_folder_is_refused(root, words):
    with pytest.raises(UserError, match=words):
        build(root)


# ---- samples -------------------------------------------------------------


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Eleven sound images and all kinds of broken ones."""
    root = write_pictures(tmp_path_factory.mktemp('mixed'), 11)
    for name, content in broken_files().items():
        (root / name).write_bytes(content)
    return root


def loader(dataset, workers, persistent=False, **options):
    return DataLoader(
        dataset,
        batch_size=4,
        num_workers=workers,
        collate_fn=default_collate,
        persistent_workers=persistent and workers > 0,
        worker_init_fn=partial(
            worker_init_fn, num_workers=workers, rank=0, seed=7
        ),
        **options,
    )


def error_of(batches):
    try:
        list(batches)
    except Exception as error:
        # Its frames would keep the workers waiting to be joined.
        return error.with_traceback(None)


def values(batches):
    """All numbers and names in the batches of an epoch."""
    leaves = tree_leaves(list(batches))
    return [x.tolist() if torch.is_tensor(x) else x for x in leaves]


def run_epochs(folder, workers, epochs=(0, 1), seed=5, **options):
    dataset = build(str(folder))
    batches, keyed = seeded(dataset, workers, seed, **options)
    results = []
    for epoch in epochs:
        keyed.epoch = epoch
        results.append(values(batches))
    return dataset, results


def seeded(dataset, workers, seed=5, **options):
    """A loader as ReproducibleResumeHook makes it, and its batches."""
    dataset.__getitems__ = SeededLoading(dataset, seed)
    batches = loader(dataset, workers, persistent=True, **options)
    keyed = KeyedBatches(batches.batch_sampler)
    object.__setattr__(batches, 'batch_sampler', keyed)
    return batches, keyed


def test_views_do_not_depend_on_workers_or_history(folder):
    """Broken images included, known to be so or not."""
    alone, epochs = run_epochs(folder, 0)
    shared, with_workers = run_epochs(folder, 2)
    _, resumed = run_epochs(folder, 2, epochs=[1])
    assert with_workers == epochs
    assert resumed == epochs[1:]
    # What the workers found is known here.
    expected = sorted(broken_files())
    for dataset in (alone, shared):
        found = sorted(os.path.basename(p) for p in dataset.broken_paths())
        assert found == expected
        assert len(dataset) == 11 + len(expected)


@pytest.mark.slow
def test_spawned_workers_share_state_as_forked_ones(folder):
    alone, epochs = run_epochs(folder, 0)
    spawned, others = run_epochs(
        folder, 2, multiprocessing_context='spawn', prefetch_factor=1
    )
    assert others == epochs
    assert spawned.broken_paths() == alone.broken_paths()


def test_known_broken_images_are_not_decoded_again(folder, monkeypatch):
    reads = []
    decode = loading.decode_whole
    monkeypatch.setattr(
        loading,
        'decode_whole',
        lambda b, limit: reads.append(b) or decode(b, limit),
    )
    dataset = build(str(folder))
    for _ in range(3):
        for i in range(len(dataset)):
            dataset[i]
    count = len(dataset) * 3
    assert len(reads) == count + len(broken_files())


def test_refused_crops_are_not_broken_images(tmp_path):
    seen = []

    def refuse(results):
        """Find no pair of crops, except in the last image."""
        seen.append(results['sample_idx'])
        return results if results['sample_idx'] == 2 else None

    dataset = build(
        str(write_pictures(tmp_path, 3)), [dict(type='LoadSceneImage'), refuse]
    )
    assert [dataset[i]['sample_idx'] for i in range(3)] == [2, 2, 2]
    assert not dataset.broken.any()
    assert {0, 1} < set(seen)


def test_images_that_are_all_refused_end_in_a_sentence(tmp_path):
    write_pictures(tmp_path, 3, width=300, height=10)
    pipeline = [PIPELINE[0], PIPELINE[1] | dict(area_range=(0.9, 1.0))]
    dataset = build(str(tmp_path), pipeline, max_refetch=20)
    with pytest.raises(UserError, match="on_no_overlap='center'") as error:
        dataset[0]
    assert str(tmp_path) in str(error.value)
    assert not dataset.broken.any()


@pytest.mark.parametrize('workers', [0, 2])
def test_all_broken_ends_in_one_sentence(tmp_path, workers):
    for name, content in broken_files().items():
        (tmp_path / name).write_bytes(content)
    dataset = build(str(tmp_path))
    error = error_of(loader(dataset, workers))
    assert isinstance(error, UserError)
    message = str(error)
    assert message.startswith(f'None of the {len(dataset)} images in ')
    assert str(tmp_path) in message
    assert message.endswith('check that the files are complete images.')
    assert '\n' not in message
    assert dataset.broken.all()


def test_one_sound_image_among_broken_ones_is_found(tmp_path):
    write_pictures(tmp_path, 1)
    for i in range(60):
        (tmp_path / f'{i}.jpg').write_bytes(b'')
    dataset = build(str(tmp_path), max_refetch=0, pipeline=PIPELINE[:1])
    assert {os.path.basename(dataset[i]['img_path']) for i in range(20)} == {
        '000.png'
    }


@pytest.mark.parametrize('workers', [0, 2])
def test_an_outage_changes_no_sample(tmp_path, monkeypatch, workers):
    """The folder is gone, and comes back while its images are waited for."""
    images, away = write_pictures(tmp_path / 'images', 8), tmp_path / 'away'
    dataset = build(str(images))
    expected = values(seeded(dataset, workers)[0])

    def come_back(seconds):
        with contextlib.suppress(OSError):  # another worker did it
            away.rename(images)

    clock = SimpleNamespace(sleep=come_back, monotonic=time.monotonic)
    monkeypatch.setattr(storage, 'time', clock)
    images.rename(away)
    found = values(seeded(dataset, workers)[0])
    assert not dataset.broken.any()
    assert found == expected


def test_storage_that_stays_away_breaks_no_image(tmp_path):
    images = write_pictures(tmp_path / 'images', 8)
    dataset = build(str(images), [dict(type='LoadSceneImage', patience=0.1)])
    images.rename(tmp_path / 'away')
    message = sentence_of(dataset.__getitem__, 0)
    assert message.startswith(f'{images}/')
    assert 'No such file or directory' in message
    assert f'storage of {images} is mounted' in message
    assert not dataset.broken.any()


def fail(results):
    raise ValueError('a bug in a transform')


def test_a_bug_in_a_transform_is_raised(tmp_path):
    """Only decoding makes an image broken."""
    dataset = build(str(write_pictures(tmp_path, 4)), [PIPELINE[0], fail])
    with pytest.raises(ValueError, match='^a bug in a transform$'):
        dataset[0]
    assert not dataset.broken.any()
