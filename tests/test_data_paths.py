"""Missing data end a run with a sentence and the tree."""

import pytest
from mmengine.config import Config

from pixcon_mm.config import load_config
from pixcon_mm.data_paths import LOADERS, check_data
from pixcon_mm.errors import UserError
from tests import ROOT, benchmarks


def load(name, root):
    return load_config(str(ROOT / f'configs/{name}.py'), {'data_root': root})


@pytest.mark.parametrize(
    ('name', 'path'),
    [
        ('detection/mask-rcnn_r50-fpn_1x_coco', 'val2017'),
        (
            'detection/faster-rcnn_r50-c4_24k_voc0712',
            'VOC2012/ImageSets/Main/trainval.txt',
        ),
        (
            'segmentation/fcn_r50-d8_80k_ade20k',
            'annotations/validation',
        ),
    ],
)
def test_what_is_missing_is_named(name, path, tmp_path):
    cfg = load(name, f'{tmp_path}/data/')
    benchmarks.write_data(cfg, tmp_path / 'data')
    check_data(cfg)
    (tmp_path / 'data' / path).rename(tmp_path / 'elsewhere')
    with pytest.raises(UserError) as caught:
        check_data(cfg)
    sentence = str(caught.value)
    assert sentence.startswith(f'There is no {tmp_path}/data/{path}. The ')
    assert sentence.count(f'\n    {tmp_path}/data/') >= 2
    assert '--cfg-options data_root=/your/data/' in sentence


def test_pretraining_and_object_stores_are_not_looked_at(tmp_path):
    check_data(load('pretrain/pixcon_r50_coco', f'{tmp_path}/none'))
    cfg = load('detection/mask-rcnn_r50-fpn_1x_coco', 's3://coco/')
    check_data(cfg)
    for name in LOADERS:
        cfg[name].dataset.update(
            data_root='', data_prefix=dict(img='s3://coco/')
        )
    check_data(cfg)


def test_folders_without_a_matching_file(tmp_path):
    cfg = load('segmentation/fcn_r50-d8_40k_cityscapes', f'{tmp_path}/data/')
    benchmarks.write_data(cfg, tmp_path / 'data')
    cfg.train_dataloader.dataset.img_suffix = '.jpg'
    with pytest.raises(UserError) as caught:
        check_data(cfg)
    assert str(caught.value) == (
        f'A data set is empty: {tmp_path}/data/leftImg8bit/train has no file '
        "that ends in '.jpg', the img_suffix of the CityscapesDataset."
    )


def mixed(tmp_path, **options):
    """A set of four .jpg images, with three others among them."""
    folder = tmp_path / 'data/images'
    folder.mkdir(parents=True, exist_ok=True)
    (tmp_path / 'data/labels').mkdir(exist_ok=True)
    for name in ('1.jpg', '2.jpg', 'a.png', 'b.png', 'c.JPG', 'notes.txt'):
        (folder / name).touch()
    prefix = dict(img_path='images', seg_map_path='labels')
    dataset = dict(
        type='BaseSegDataset',
        data_root=f'{tmp_path}/data',
        data_prefix=prefix,
        **options,
    )
    return Config(
        dict(
            default_scope='mmseg',
            train_dataloader=dict(
                dataset=dict(type='RepeatDataset', times=2, dataset=dataset)
            ),
        )
    )


def test_images_with_another_suffix_are_counted(tmp_path, capsys):
    check_data(mixed(tmp_path))
    shown = capsys.readouterr().err
    assert shown.count('\n') == 1
    assert shown.startswith(f'warning: {tmp_path}/data/images has images that')
    assert '(2 .png, 1 .JPG)' in shown
    assert "BaseSegDataset takes files that end in '.jpg'" in shown
    check_data(mixed(tmp_path, img_suffix='.png'))
    assert '(2 .jpg, 1 .JPG)' in capsys.readouterr().err


def test_what_is_left_out_on_purpose_is_not_counted(
    tmp_path, capsys, monkeypatch
):
    (tmp_path / 'data').mkdir()
    (tmp_path / 'data/list.txt').touch()
    check_data(mixed(tmp_path, ann_file='list.txt'))
    cfg = mixed(tmp_path)
    monkeypatch.setenv('LOCAL_RANK', '1')
    check_data(cfg)  # the first process says it
    monkeypatch.setenv('LOCAL_RANK', '0')
    # Label maps beside the images.
    cfg.train_dataloader.dataset.dataset.data_prefix.seg_map_path = 'images'
    (tmp_path / 'data/images/c.JPG').unlink()
    check_data(cfg)
    assert capsys.readouterr().err == ''


@pytest.mark.parametrize('name', ['fcn_r50-d8_80k_ade20k', 'fcn_r18_demo'])
def test_complete_sets_cause_no_warning(name, tmp_path, capsys):
    cfg = load(f'segmentation/{name}', f'{tmp_path}/data/')
    benchmarks.write_data(cfg, tmp_path / 'data')
    check_data(cfg)
    assert capsys.readouterr().err == ''
