"""Missing data end a run with a sentence and the tree."""

import pytest

from pixcon_mm.data_paths import LOADERS, check_data
from tests import benchmarks
from tests.commands import sentence_of
from tests.recipes import load


@pytest.mark.parametrize(
    ('name', 'path'),
    [
        ('detection/mask-rcnn_r50-fpn_1x_coco', 'val2017'),
        (
            'detection/faster-rcnn_r50-c4_24k_voc0712',
            'VOC2012/ImageSets/Main/trainval.txt',
        ),
        ('segmentation/fcn_r50-d8_80k_ade20k', 'annotations/validation'),
    ],
)
def test_what_is_missing_is_named(name, path, tmp_path):
    cfg = load(name, {'data_root': f'{tmp_path}/data/'})
    benchmarks.write_data(cfg, tmp_path / 'data')
    check_data(cfg, LOADERS)
    (tmp_path / 'data' / path).rename(tmp_path / 'elsewhere')
    sentence = sentence_of(check_data, cfg, LOADERS)
    assert sentence.startswith(f'There is no {tmp_path}/data/{path}. The ')
    assert sentence.count(f'\n    {tmp_path}/data/') >= 2
    assert '--cfg-options data_root=/your/data/' in sentence


def test_pretraining_and_object_stores_are_not_looked_at(tmp_path):
    nowhere = {'data_root': f'{tmp_path}/none'}
    check_data(load('pretrain/pixcon_r50_coco', nowhere), LOADERS)
    bucket = {'data_root': 's3://coco/'}
    cfg = load('detection/mask-rcnn_r50-fpn_1x_coco', bucket)
    check_data(cfg, LOADERS)
    for name in LOADERS:
        cfg[name].dataset.update(
            data_root='', data_prefix=dict(img='s3://coco/')
        )
    check_data(cfg, LOADERS)
