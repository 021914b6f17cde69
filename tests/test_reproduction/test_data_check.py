"""What is said of data that are there, partly there, or not."""

import os
from pathlib import Path

import pytest

from reproduction.data_check import check
from reproduction.plan import Data


def write(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b'')


@pytest.fixture
def coco(tmp_path, monkeypatch):
    """A tree of 3 + 2 images and two lists, and the plan's view of it."""
    monkeypatch.chdir(tmp_path)
    root = Path('data/coco')
    write(root, *(f'train2017/{i}.jpg' for i in range(3)))
    write(root, *(f'val2017/{i}.jpg' for i in range(2)))
    write(root, 'annotations/train.json', 'annotations/val.json')
    files = {
        'train2017/*.jpg': 3,
        'val2017/*.jpg': 2,
        'annotations/train.json': 1,
        'annotations/val.json': 1,
    }
    return root, Data(str(root), files)


def test_complete(coco):
    verdict = check(coco[1])
    assert verdict.is_complete
    assert verdict.sentence == 'complete: 3 + 2 + 2 files'
    assert [c.found for c in verdict.counts] == [3, 2, 1, 1]
    assert all(c.missing is None for c in verdict.counts)


def test_other_files_do_not_count(coco):
    write(coco[0], 'train2017/list.txt', 'train2017/._0.jpg')
    write(coco[0], 'train2017/deep/9.jpg', 'train2017/folder.jpg/x')
    (coco[0] / 'train2017/dangling.jpg').symlink_to('nowhere')
    assert check(coco[1]).sentence == 'complete: 3 + 2 + 2 files'


def test_incomplete(coco):
    (coco[0] / 'train2017/1.jpg').unlink()
    verdict = check(coco[1])
    assert not verdict.is_complete
    assert verdict.sentence == ('incomplete: train2017/*.jpg has 2 of 3 files')


def test_large_numbers_can_be_read(coco):
    data = Data(str(coco[0]), {'train2017/*.jpg': 118287})
    assert check(data).sentence == (
        'incomplete: train2017/*.jpg has 3 of 118,287 files'
    )


def test_missing_parts_are_named_first(coco):
    root, data = coco
    (root / 'annotations/val.json').unlink()
    (root / 'train2017/1.jpg').unlink()
    verdict = check(data)
    assert verdict.sentence == (
        'missing: there is no data/coco/annotations/val.json; '
        'train2017/*.jpg has 2 of 3 files'
    )
    assert verdict.counts[3].missing == 'data/coco/annotations/val.json'


def test_a_missing_folder_is_named_once(coco):
    root, data = coco
    for name in ('train', 'val'):
        (root / f'annotations/{name}.json').unlink()
    (root / 'annotations').rmdir()
    assert check(data).sentence == (
        'missing: there is no data/coco/annotations'
    )


def test_more_than_expected_is_said_and_no_mistake(coco):
    write(coco[0], 'val2017/7.jpg')
    verdict = check(coco[1])
    assert verdict.is_complete
    assert verdict.sentence == (
        'complete: 3 + 3 + 2 files; val2017/*.jpg has 1 more than the usual 2'
    )


def test_without_the_root_there_is_the_tree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    files = {'train2017/*.jpg': 118287, 'annotations/a.json': 1}
    verdict = check(Data('data/coco/', files))
    assert not verdict.is_complete
    assert verdict.sentence == 'missing: there is no folder data/coco/'
    assert verdict.tree == (
        'data/coco/ should hold\n'
        '    data/coco/train2017/*.jpg  (118,287 files)\n'
        '    data/coco/annotations/a.json'
    )


def test_nothing_to_count_still_needs_the_root(tmp_path):
    assert check(Data(str(tmp_path), {})).sentence == 'complete: 0 files'
    assert not check(Data(str(tmp_path / 'no'), {})).is_complete


def test_a_single_file(tmp_path):
    write(tmp_path, 'a.txt')
    verdict = check(Data(str(tmp_path), {'a.txt': 1}))
    assert verdict.sentence == 'complete: 1 file'


def test_a_folder_in_place_of_a_file(tmp_path):
    write(tmp_path, 'a.txt/x')
    assert not check(Data(str(tmp_path), {'a.txt': 1})).is_complete


def found(root, pattern):
    return check(Data(str(root), {pattern: 1})).counts[0].found


def test_patterns(tmp_path):
    write(
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
        'a/b/**': 4,
        '*.png': 1,
        'a/[bc]/y.png': 1,
        'a/.h/*.png': 1,
        'a/b/.*.png': 1,
    }
    assert {p: found(tmp_path, p) for p in expected} == expected


def test_links_are_followed_but_not_in_circles(tmp_path):
    write(tmp_path, 'elsewhere/aachen/1.png', 'elsewhere/bochum/2.png')
    (tmp_path / 'train').mkdir()
    for name in ('aachen', 'bochum'):
        link = tmp_path / 'train' / name
        link.symlink_to(tmp_path / 'elsewhere' / name)
    (tmp_path / 'train/bochum/back').symlink_to(tmp_path / 'train')
    assert found(tmp_path, 'train/**/*.png') == 2


def test_a_closed_folder_is_no_missing_one(coco, monkeypatch):
    def closed(folder):
        raise PermissionError(13, 'Permission denied', folder)

    monkeypatch.setattr(os, 'scandir', closed)
    verdict = check(Data('data/coco', {'train2017/*.jpg': 3}))
    assert not verdict.is_complete
    assert verdict.sentence == (
        'missing: data/coco/train2017 cannot be opened (Permission denied)'
    )


def test_images_are_not_asked_one_by_one(coco, monkeypatch):
    # A stat for each of 120,000 files takes minutes on a network's disk.
    asked = []
    stat = os.stat
    monkeypatch.setattr(
        os, 'stat', lambda path, *a, **k: asked.append(path) or stat(path)
    )
    assert check(Data('data/coco', {'train2017/*.jpg': 3})).is_complete
    assert not [path for path in asked if str(path).endswith('.jpg')]
