"""Missing data end a run with a sentence and the tree."""

from pathlib import Path

import pytest

from pixcon_mm.config import load_config
from pixcon_mm.data_paths import check_data
from pixcon_mm.engine import PixConRunner
from pixcon_mm.errors import UserError, explain
from tests import benchmarks, toy

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _framework_state():
    with toy.framework_state():
        yield


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
    said = str(caught.value)
    assert said.startswith(f'There is no {tmp_path}/data/{path}. The ')
    assert said.count(f'\n    {tmp_path}/data/') >= 2
    assert '--cfg-options data_root=/your/data/' in said


def test_pretraining_and_object_stores_are_not_looked_at(tmp_path):
    check_data(load('pretrain/pixcon_r50_coco', f'{tmp_path}/none'))
    check_data(load('detection/mask-rcnn_r50-fpn_1x_coco', 's3://coco/'))


def test_folders_without_a_matching_file(tmp_path):
    cfg = load('segmentation/fcn_r50-d8_40k_cityscapes', f'{tmp_path}/data/')
    benchmarks.write_data(cfg, tmp_path / 'data')
    cfg.train_dataloader.dataset.img_suffix = '.jpg'
    cfg.work_dir = str(tmp_path)
    runner = PixConRunner.from_cfg(cfg)
    with pytest.raises(ValueError, match='concatenate') as caught:
        runner.build_train_loop(cfg.train_cfg)
    said = explain(caught.value)
    assert said.startswith('A data set is empty: CityscapesDataset found')
    assert "img_suffix='.jpg'" in said
    assert f'{tmp_path}/data/leftImg8bit/train' in said
