"""tools/predict.py: pictures and results for whatever images people have."""

import json
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import init_default_scope
from PIL import Image
from pycocotools import mask as rle

from pixcon_mm.checkpoint.load import load_weights
from pixcon_mm.errors import UserError
from pixcon_mm.tools import predict as tool
from tests.test_datasets.pictures import write_pictures


@pytest.fixture
def images(tmp_path):
    """A folder of images of many kinds; a broken one is among them."""
    folder = tmp_path / 'images'
    (folder / 'sub').mkdir(parents=True)
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 256, (50, 70, 3), np.uint8))
    noise.save(folder / 'photo.jpg')
    noise.save(folder / 'photo.png')
    noise.convert('L').resize((90, 30)).save(folder / 'sub/grey.PNG')
    noise.convert('RGBA').save(folder / 'sub/photo.png')
    content = (folder / 'photo.jpg').read_bytes()
    (folder / 'cut.jpg').write_bytes(content[: len(content) // 2])
    (folder / 'notes.txt').write_text('no image')
    return folder


OUT = Path('out')  # of no importance
STEMS = {'photo.jpg', 'photo.png', 'sub/grey', 'sub/photo'}


def files(folder, suffix):
    return {
        str(path.relative_to(folder)).removesuffix(suffix): path
        for path in folder.rglob(f'*{suffix}')
    }


def test_detections(detector, images, tmp_path, call):
    out = tmp_path / 'out'
    options = ['--out', out, '--score-thr', 0.001, '--device', 'cpu']
    status, shown, warned = call(tool.main, *detector, images, *options)
    assert status == 1
    assert f'warning: {images}/cut.jpg is skipped: ' in warned
    assert f'4 of 5 images: pictures in {out}/vis' in shown
    assert files(out / 'vis', '.jpg').keys() == STEMS
    results = files(out / 'preds', '.json')
    assert results.keys() == STEMS
    found = json.loads(results['sub/grey'].read_text())
    assert found['image'] == f'{images}/sub/grey.PNG'
    assert found['detections']
    scores = [one['score'] for one in found['detections']]
    assert scores == sorted(scores, reverse=True)
    for one in found['detections']:
        x1, y1, x2, y2 = one['box']
        assert 0 <= x1 <= x2 <= 90
        assert 0 <= y1 <= y2 <= 30
        assert one['class'].startswith('class')  # of the checkpoint
        assert rle.decode(one['mask']).shape == (30, 90)


def test_segments(segmentor, images, tmp_path, call):
    config, checkpoint = segmentor
    out, good = tmp_path / 'out', images / 'sub'
    words = [config, checkpoint, good, images / 'photo.jpg', '--out', out]
    status, shown, _ = call(tool.main, *words, '--device', 'cpu')
    assert status == 0
    assert '3 of 3 images' in shown
    stems = {'grey', 'photo.png', 'photo.jpg'}
    assert files(out / 'vis', '.jpg').keys() == stems
    results = files(out / 'preds', '.png')
    assert results.keys() == stems
    labels = np.array(Image.open(results['grey']))
    assert labels.shape == (30, 90)
    assert labels.dtype == np.uint8
    assert labels.max() < 150
    # Where the colour is the same, the picture varies like the photograph.
    labels = np.array(Image.open(results['photo.jpg']))
    area = labels == np.bincount(labels.ravel()).argmax()
    # Away from the border, where the class is written, and smoothed, because
    # older versions of Matplotlib shift the picture by a part of a pixel.
    area[:10] = area[-10:] = area[:, :10] = area[:, -10:] = False
    picture, photo = (
        cv2.blur(cv2.imread(str(path)), (9, 9))[area].ravel()
        for path in (out / 'vis/photo.jpg.jpg', images / 'photo.jpg')
    )
    assert np.corrcoef(picture, photo)[0, 1] > 0.8


def test_a_weight_that_is_missing_stops(segmentor, images, tmp_path):
    config, checkpoint = segmentor
    tensors = torch.load(checkpoint)['state_dict']
    del tensors['decode_head.conv_seg.weight']
    part = tmp_path / 'part.pth'
    torch.save(tensors, part)
    words = [str(w) for w in (config, part, images, '--out', tmp_path / 'o')]
    with pytest.raises(UserError, match='1 of .* tensors is not in'):
        tool.main(words)


def test_names_of_the_config_where_the_file_has_none(detector):
    config, checkpoint = detector
    cfg = tool.read_config(str(config))
    init_default_scope('mmdet')
    found = tool.class_names(cfg, {})
    assert found['classes'][:2] == ('person', 'bicycle')
    assert len(found['palette']) == 80
    noted = load_weights(checkpoint).dataset_meta
    found = tool.class_names(cfg, noted)
    assert found['classes'][0] == 'class0'
    assert found['palette'][7] == (7, 7, 7)


def test_a_single_pixel_is_skipped(tmp_path):
    for height, fault in ((1, 'it is a single pixel'), (2, None)):
        cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((height, 1, 3)))
        found = tool.find_fault(tmp_path / 'a.png')
        assert (found or '').startswith(fault or '')
        assert bool(found) == bool(fault)


def test_names_are_unique(tmp_path):
    write_pictures(tmp_path / 'a', 1)
    write_pictures(tmp_path / 'b', 1)
    (tmp_path / 'b/.hidden').mkdir()
    write_pictures(tmp_path / 'b/.hidden', 1)
    name = [*(tmp_path / 'a').iterdir()][0].name
    taken = tmp_path / f'b/{name}_2.png'  # what a number would make of it
    shutil.copy(tmp_path / 'b' / name, taken)
    names = tool.name_images([tmp_path / 'a', tmp_path / 'b', taken], OUT)
    assert len(names) == 3
    assert len({*names.values()}) == 3


def test_earlier_results_are_no_images(tmp_path):
    write_pictures(tmp_path / 'a', 2)
    write_pictures(tmp_path / 'a/out/vis', 2)
    found = tool.name_images([tmp_path / 'a'], tmp_path / 'a/out')
    assert {*found.values()} == {'000', '001'}
    # Unless they are asked for.
    found = tool.name_images([tmp_path / 'a/out/vis'], tmp_path / 'a/out')
    assert len(found) == 2
    with pytest.raises(UserError, match='name another folder with --out'):
        tool.name_images([tmp_path / 'a'], tmp_path / 'a')


def test_an_image_too_thin_for_the_network_is_skipped(
    segmentor, tmp_path, call, monkeypatch
):
    config, checkpoint = segmentor
    write_pictures(tmp_path / 'a', 3)

    def refuse(inferencer, image, _):
        if image.stem == '001':
            raise RuntimeError('Argument #6: Padding size should be less')
        return predict(inferencer, image, _)

    predict, suffix = tool.PREDICT['mmseg']
    monkeypatch.setitem(tool.PREDICT, 'mmseg', (refuse, suffix))
    words = [config, checkpoint, tmp_path / 'a', '--out', tmp_path / 'out']
    status, shown, error = call(tool.main, *words, '--device', 'cpu')
    assert status == 1
    assert '001.png is skipped: the network does not take images' in error
    assert '2 of 3 images' in shown


def test_images_are_not_overwritten(segmentor, tmp_path, call):
    config, checkpoint = segmentor
    write_pictures(tmp_path / 'vis', 1)
    image = tmp_path / 'vis/000.jpg'
    (tmp_path / 'vis/000.png').rename(image)
    before = image.read_bytes()
    words = [config, checkpoint, tmp_path / 'vis', '--out', tmp_path]
    status, _, error = call(tool.main, *words, '--device', 'cpu')
    assert status == 1
    assert f'{image} is one of the images, and a result' in error
    assert image.read_bytes() == before


@pytest.mark.parametrize('value', ['nan', '30', '-1'])
def test_scores_are_shares(call, value):
    words = ['a.py', 'a.pth', 'a.jpg', '--out', 'o', f'--score-thr={value}']
    status, _, error = call(tool.main, *words)
    assert status == 2
    assert '--score-thr must be a number from 0 to 1' in error


@pytest.mark.parametrize(
    ('name', 'words'),
    [('none.jpg', 'There is no image or folder'), ('.', 'has no image')],
)
def test_nothing_to_predict(tmp_path, name, words):
    with pytest.raises(UserError, match=words):
        tool.name_images([tmp_path / name], OUT)


def test_a_wrong_device_is_found_before_the_weights(detector, images):
    words = [str(detector[0]), 'none.pth', str(images), '--out', 'o']
    with pytest.raises(UserError, match='--device gpu cannot be used'):
        tool.main([*words, '--device', 'gpu'])


def test_a_config_that_cannot_predict(tmp_path):
    cfg = tool.Config(dict(default_scope='mmpretrain'))
    with pytest.raises(UserError, match='no detector or segmentor'):
        tool.build_inferencer(cfg, 'model.pth', 'cpu')
