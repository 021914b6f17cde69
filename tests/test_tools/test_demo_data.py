"""The demo's scenes: exact, equal at each run, readable as COCO."""

import errno
import hashlib
import re

import cv2
import numpy as np
import pytest
from pycocotools.coco import COCO

from pixcon_mm.evaluation.dense_data import DenseData
from tests import ROOT
from tests.commands import load_tool


def make(out, train):
    words = ['--out', out, '--train', train, '--val', 6]
    load_tool('make_demo_data').main([str(word) for word in words])
    return out


@pytest.fixture(scope='module')
def data(tmp_path_factory):
    return make(tmp_path_factory.mktemp('demo'), 12)


def test_another_folder_is_left_alone(tmp_path, call):
    main = load_tool('make_demo_data').main
    (tmp_path / 'README.txt').write_text('mine')
    status, _, error = call(main, '--out', tmp_path, '--train', 1)
    assert status == 1
    assert 'was not made by this tool' in error
    assert [p.name for p in tmp_path.iterdir()] == ['README.txt']
    status, _, error = call(main, '--out', tmp_path / 'README.txt')
    assert 'is a file: name a folder' in error


def test_a_preview_of_few_scenes(tmp_path, call):
    main = load_tool('make_demo_data').main
    words = ('--out', tmp_path / 'data', '--train', 6, '--val', 1)
    status, *_ = call(main, *words, '--preview', tmp_path / 'a.png')
    assert status == 0
    assert cv2.imread(str(tmp_path / 'a.png')).shape == (480, 1600, 3)
    status, _, error = call(main, *words, '--preview', tmp_path / 'a')
    assert status == 2
    assert 'name a .png or .jpg file' in error


def test_fewer_scenes_replace_more(tmp_path):
    make(tmp_path, 4)
    make(tmp_path, 2)
    coco = COCO(tmp_path / 'annotations/instances_train2017.json')
    assert len(coco.imgs) == 2
    for folder in ('train2017', 'semantic/train2017'):
        assert len([*(tmp_path / folder).iterdir()]) == 2


def test_a_split_that_cannot_be_written_is_not_complete(
    tmp_path, call, monkeypatch
):
    tool = load_tool('make_demo_data')
    make(tmp_path, 1)
    target = tmp_path / 'annotations/instances_train2017.json'
    assert target.is_file()

    def fail(path, content):
        raise OSError(errno.ENOSPC, 'No space left on device', str(path))

    monkeypatch.setattr(tool.Path, 'write_bytes', fail)
    status, _, error = call(tool.main, '--out', tmp_path, '--train', 1)
    assert status
    assert error.startswith('error: ')
    assert 'Traceback' not in error
    assert not target.exists()


def digests(folder):
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.iterdir())
    }


def test_same_seed_gives_the_same_scenes(data, tmp_path):
    """A larger number of scenes changes none of them."""
    other = make(tmp_path, 14)
    for folder in ('train2017', 'semantic/train2017'):
        first, second = digests(data / folder), digests(other / folder)
        assert first.items() <= second.items()
        assert len(set(first.values())) == 12
    assert digests(data / 'val2017') == digests(other / 'val2017')
    assert not {*digests(data / 'train2017').values()} & {
        *digests(data / 'val2017').values()
    }


@pytest.mark.parametrize('split', ['train2017', 'val2017'])
def test_boxes_masks_and_labels_agree(data, split):
    coco = COCO(data / f'annotations/instances_{split}.json')
    assert len(coco.cats) == 7
    used = {a['category_id'] for a in coco.anns.values()}
    assert split == 'val2017' or used == set(range(1, 8))
    for image in coco.imgs.values():
        semantic = cv2.imread(
            str(data / f'semantic/{split}/{image["id"]:06d}.png'), -1
        )
        picture = cv2.imread(str(data / split / image['file_name']))
        assert picture.shape == (image['height'], image['width'], 3)
        seen = np.zeros_like(semantic)
        annotations = coco.imgToAnns[image['id']]
        assert annotations
        for annotation in annotations:
            mask = coco.annToMask(annotation).astype(bool)
            assert not seen[mask].any(), 'masks overlap'
            seen[mask] = annotation['category_id']
            assert mask.sum() == annotation['area'] > 0
            rows, columns = np.nonzero(mask)
            x, y, w, h = annotation['bbox']
            assert (x, y) == (columns.min(), rows.min())
            assert (x + w, y + h) == (columns.max() + 1, rows.max() + 1)
        assert np.array_equal(seen, semantic)


def test_it_is_a_tree_of_coco_panoptic(data):
    found = DenseData(data, 'val', (24, 32))
    assert found.kind == 'COCO-panoptic'
    assert found.classes[0] == 'ground'
    assert len(found) == 6
    for (_, mask), (path, _) in zip(found, found.pairs, strict=True):
        semantic = cv2.imread(
            str(data / f'semantic/val2017/{path.stem}.png'), -1
        )
        assert np.array_equal(mask, semantic)


def test_every_photograph_has_its_source(data):
    tool = (ROOT / 'tools/make_demo_data.py').read_text()
    photos = set(re.findall(r"'(\w+\.(?:png|jpg))'", tool))
    sources = (data / 'README.txt').read_text()
    assert photos == set(re.findall(r'^(\w+\.\w+) ', sources, flags=re.M))
