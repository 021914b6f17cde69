"""A path leads to an image, or to the one error that skips it."""

import os
from unittest.mock import Mock

import numpy as np
import pytest
from mmengine import dist

from pixcon_mm.datasets import LoadSceneImage, loading
from pixcon_mm.datasets.loading import (
    BrokenImageError,
    name_images,
    readable_images,
)
from pixcon_mm.errors import UserError
from tests.commands import touch
from tests.test_datasets.pictures import encode, picture


def load(path, **options):
    return LoadSceneImage(**options)(dict(img_path=str(path)))


def test_image_and_its_shapes(tmp_path):
    path = tmp_path / 'image'
    path.write_bytes(encode(picture(3)))
    results = load(path)
    expected = np.asarray(picture(3))[..., ::-1]
    np.testing.assert_array_equal(results['img'], expected)
    assert results['img_shape'] == results['ori_shape'] == (48, 64)


def test_vanished_file_and_folder_are_broken(tmp_path):
    (tmp_path / 'other').touch()
    for path in (tmp_path / 'gone.jpg', tmp_path):
        with pytest.raises(BrokenImageError):
            load(path)


def test_too_many_pixels_or_bytes(tmp_path):
    path = tmp_path / 'large.png'
    path.write_bytes(encode(picture(3)))
    with pytest.raises(BrokenImageError, match='large.png: 64 x 48 is'):
        load(path, max_pixels=3000)
    os.truncate(path, 2 * 10**9)
    with pytest.raises(BrokenImageError, match='2000 MB, more than 1667'):
        load(path)


def test_an_image_that_memory_does_not_hold(tmp_path, monkeypatch):
    path = tmp_path / 'large.png'
    path.write_bytes(b'content')
    fail = Mock(side_effect=MemoryError)
    monkeypatch.setattr(loading, 'decode_whole', fail)
    with pytest.raises(BrokenImageError, match='large.png: .* memory'):
        load(path)


def test_a_bug_of_ours_does_not_mark_an_image_as_broken(tmp_path, monkeypatch):
    path = tmp_path / '1.png'
    path.write_bytes(b'content')
    monkeypatch.setattr(loading, 'decode_whole', lambda: None)
    with pytest.raises(TypeError):
        load(path)


def test_images_of_every_kind_are_named_also_behind_links(tmp_path):
    touch(tmp_path, 'here/a.pgm', 'here/b.HEIC', 'here/c.txt', 'there/d.jpg')
    (tmp_path / 'here/link').symlink_to(tmp_path / 'there')
    names = name_images([tmp_path / 'here'], tmp_path / 'out')
    assert [*names.values()] == ['a', 'b', 'link/d']


def test_readable_images_are_kept_and_others_named(
    tmp_path, capsys, monkeypatch
):
    paths = [tmp_path / name for name in ('a.png', 'b.png', 'c.png', 'd.png')]
    for path in paths:
        path.write_bytes(encode(picture(3)))
    paths[1].write_bytes(b'')
    assert readable_images(paths) == [paths[0], *paths[2:]]
    first, last = capsys.readouterr().err.splitlines()
    assert 'b.png' in first
    assert '1 of 4 images' in last
    assert readable_images(paths, 1) == paths[:1]
    assert not capsys.readouterr().err
    with pytest.raises(UserError, match='None of the images'):
        readable_images(paths[1:2])
    capsys.readouterr()
    # Hooks list the images in each process of a training.
    monkeypatch.setattr(dist.utils, 'is_main_process', lambda _=None: False)
    assert len(readable_images(paths)) == 3
    assert not capsys.readouterr().err
