"""Data that are there, partly there, or not."""

import os
from pathlib import Path

import pytest

from reproduction.plan import Data
from reproduction.status import check_data_set
from tests.commands import touch


def check(root, files):
    return check_data_set(Data(root=str(root), files=files))


@pytest.fixture
def coco(tmp_path, monkeypatch):
    """Make a tree of 3 + 2 images and two lists; return their numbers."""
    monkeypatch.chdir(tmp_path)
    root = Path('data/coco')
    touch(root, *(f'train2017/{i}.jpg' for i in range(3)))
    touch(root, *(f'val2017/{i}.jpg' for i in range(2)))
    touch(root, 'annotations/train.json', 'annotations/val.json')
    files = {
        'train2017/*.jpg': 3,
        'val2017/*.jpg': 2,
        'annotations/train.json': 1,
        'annotations/val.json': 1,
    }
    return root, files


@pytest.mark.parametrize(
    ('removed', 'added', 'sentence'),
    [
        ('', '', 'complete: 7 files'),
        # Other files do not count.
        (
            '',
            'train2017/._0.jpg train2017/d/9.jpg train2017/d.jpg/x',
            'complete: 7 files',
        ),
        ('', 'val2017/7.jpg', 'complete: val2017/*.jpg has 3 of 2 files'),
        (
            'annotations/val.json train2017/1.jpg',
            '',
            'incomplete: train2017/*.jpg has 2 of 3 files; '
            'annotations/val.json has 0 of 1 files',
        ),
    ],
)
def test_sentences(coco, removed, added, sentence):
    root, files = coco
    for name in removed.split():
        (root / name).unlink()
    touch(root, *added.split())
    (root / 'train2017/dangling.jpg').symlink_to('nowhere')
    result = check(root, files)
    assert result.sentence == sentence
    assert result.is_complete == sentence.startswith('complete')


def test_patterns(tmp_path):
    touch(
        tmp_path,
        *('a/x.png', 'a/b/x.png', 'a/b/y.png', 'a/c/x.png', 'a/b/d/x.png'),
        *('a/b/x.txt', 'a/.h/x.png', 'a/b/.x.png', 'x.png'),
    )
    expected = {
        'a/**/*.png': 5,
        'a/**/x.png': 4,
        'a/*/*.png': 3,
        'a/?/x.*': 3,
        '**/*.png': 6,
        '**/d/*.png': 1,
        '*.png': 1,
        'a/[bc]/y.png': 1,
        'a/.h/*.png': 1,
        'a/b/.*.png': 1,
    }
    assert check(tmp_path, expected).found == expected
    assert not check(tmp_path, {'a': 1}).is_complete  # a folder


def test_links_are_followed_but_not_in_circles(tmp_path):
    touch(tmp_path, 'elsewhere/aachen/1.png', 'elsewhere/bochum/2.png')
    (tmp_path / 'train').mkdir()
    for name in ('aachen', 'bochum'):
        link = tmp_path / 'train' / name
        link.symlink_to(tmp_path / 'elsewhere' / name)
    (tmp_path / 'train/bochum/back').symlink_to(tmp_path / 'train')
    files = {'train/**/*.png': 2}
    assert check(tmp_path, files).found == files


def test_a_closed_folder_is_named(coco, monkeypatch):
    def closed(folder):
        raise PermissionError(13, 'Permission denied', folder)

    monkeypatch.setattr(os, 'scandir', closed)
    assert check(*coco).sentence.startswith(
        'missing: data/coco/train2017/ cannot be opened (Permission denied)'
    )


def test_images_are_not_asked_one_by_one(coco, monkeypatch):
    # A stat for each of 120,000 files takes minutes on a network's disk.
    paths = []
    stat = os.stat
    monkeypatch.setattr(
        os, 'stat', lambda path, *a, **k: paths.append(path) or stat(path)
    )
    assert check(*coco).is_complete
    assert not [path for path in paths if str(path).endswith('.jpg')]
