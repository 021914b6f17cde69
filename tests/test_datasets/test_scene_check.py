"""Test the check of images without labels, by its tool."""

import os

import cv2
import numpy as np
import pytest

from pixcon_mm.datasets import scene_check
from pixcon_mm.datasets.labels import images
from pixcon_mm.errors import UserError
from pixcon_mm.tools import check_data
from tests import recipes
from tests.commands import run


@pytest.fixture
def folder(tmp_path):
    """Ten images; the third one ends too early."""
    rng = np.random.default_rng(0)
    for index in range(10):
        pixels = rng.integers(0, 256, (40, 60, 3), np.uint8)
        cv2.imwrite(str(tmp_path / f'{index}.jpg'), pixels)
    cut = tmp_path / '2.jpg'
    cut.write_bytes(cut.read_bytes()[:1500])
    return tmp_path


@pytest.fixture
def check(folder, capsys):
    """Run the tool on the folder; returns its status and its output."""

    def _check(*words, config='pretrain/pixcon_r18_demo', **changes):
        status = 0
        options = ['--cfg-options', f'data_root={folder}']
        options += [f'train_dataloader.{k}={v}' for k, v in changes.items()]
        try:
            check_data.main([recipes.path_of(config), *words, *options])
        except SystemExit as end:
            status = end.code
        return status, capsys.readouterr().out.splitlines()

    return _check


@pytest.mark.parametrize(
    'config', ['pretrain/pixcon_r18_demo', 'pretrain/densecl_r50_coco']
)
def test_names_broken_images(check, folder, config):
    status, lines = check(config=config)
    assert status == 0
    assert lines[0].startswith(f'warning: {folder}/2.jpg: ')
    assert lines[1:] == [
        f'note: {folder}: 10 of 10 images decoded; 1 of 10 images is broken.',
        '0 problems would end a run; 1 warning.',
    ]


def test_decodes_a_sample_or_all(check, folder, monkeypatch):
    monkeypatch.setattr(scene_check, 'SAMPLE', 3)
    status, lines = check()
    assert lines[0] == (
        f'note: {folder}: 3 of 10 images decoded; 0 of 3 images are broken.'
    )
    assert check('--all')[1][-2].endswith('; 1 of 10 images is broken.')


def test_a_folder_without_a_whole_image_is_a_problem(check, folder):
    for path in folder.iterdir():
        path.write_bytes(b'')
    status, lines = check()
    assert status == 1
    assert sum(line.startswith('warning: ') for line in lines) == 10
    assert lines[-2:] == [
        f'stop: {folder}: 10 of 10 images decoded, and all of these are '
        'broken.',
        '1 problem would end a run; 10 warnings.',
    ]


def test_a_missing_folder_is_a_problem(check, folder):
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    status, lines = check()
    assert status == 1
    assert lines[0] == f"stop: Image folder '{folder}' does not exist."


def test_storage_that_fails_hides_no_broken_image(check, folder, monkeypatch):
    def read(self, path):
        if path.endswith('9.jpg'):
            raise UserError('The storage does not answer.')
        return whole(self, path)

    whole = scene_check.LoadSceneImage.read
    monkeypatch.setattr(scene_check.LoadSceneImage, 'read', read)
    status, lines = check()
    assert status == 1
    assert lines[0].startswith(f'warning: {folder}/2.jpg: ')
    assert lines[1] == 'stop: The storage does not answer.'


def test_an_interrupt_hides_no_broken_image(
    check, folder, monkeypatch, capsys
):
    def decode(items, *args):
        for item in items:
            yield item
            if os.path.exists(folder / 'seen'):
                raise KeyboardInterrupt

    def read(self, path):
        if path.endswith('2.jpg'):
            (folder / 'seen').touch()
        return whole(self, path)

    whole = scene_check.LoadSceneImage.read
    monkeypatch.setattr(scene_check.LoadSceneImage, 'read', read)
    monkeypatch.setattr(images, 'with_progress', decode)
    with pytest.raises(KeyboardInterrupt):
        check()
    assert f'warning: {folder}/2.jpg: ' in capsys.readouterr().out


def test_a_missing_folder_hides_no_other(tmp_path, folder, capsys):
    """Two data sets are checked, and the first one has no folder."""
    recipe = recipes.path_of('pretrain/pixcon_r18_demo')
    config = tmp_path / 'two.py'
    config.write_text(
        f'_base_ = {str(recipe)!r}\n'
        'one = _base_.train_dataloader.dataset\n'
        'sets = [dict(one, data_root=root) for root in '
        f'("missing", {str(folder)!r})]\n'
        "both = dict(_delete_=True, type='ConcatDataset', datasets=sets)\n"
        'train_dataloader = dict(dataset=both)\n'
        'del one, sets, both\n'
    )
    with pytest.raises(SystemExit):
        check_data.main([str(config)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith('stop: Image folder ')
    assert any(line.startswith(f'warning: {folder}/2.jpg: ') for line in lines)


def test_finds_the_transform_by_its_class(check, folder):
    name = 'pixcon_mm.datasets.LoadSceneImage'
    _, lines = check(**{'dataset.pipeline.0.type': name})
    assert lines[0].startswith(f'warning: {folder}/2.jpg: ')


def test_a_wrong_data_set_is_explained(check):
    with pytest.raises(UserError, match="a key 'max_refech' .*'max_refetch'"):
        check(**{'dataset.max_refech': 1})
    with pytest.raises(UserError, match="mean 'SceneImageDataset'"):
        check(**{'dataset.type': 'SceneImageDatset'})
    status, lines = check(**{'dataset.indices': '[0,99]'})
    assert status == 1
    assert lines[0].endswith('indices has 99, and there are only 10 images.')


def test_any_name_of_a_folder_can_be_printed(folder, tmp_path_factory):
    """Also where the terminal has only ASCII."""
    odd = tmp_path_factory.mktemp('odd') / os.fsdecode(b'f\xffg')
    folder.rename(odd)
    for data_root, words in ((odd, '1 of 10 images is'), ('no', 'not exist')):
        result = run(
            'tools/check_data.py',
            recipes.path_of('pretrain/pixcon_r18_demo'),
            '--cfg-options',
            f'data_root={data_root}',
            PYTHONIOENCODING='ascii:strict',
        )
        assert words in result.stdout, result
        assert 'Traceback' not in result.stderr
