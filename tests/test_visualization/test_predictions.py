"""Pictures show truth left and prediction right, of images in a data set."""

import numpy as np
import pytest
import torch
from mmdet.datasets import CocoDataset  # noqa: F401, registers
from mmdet.structures import DetDataSample
from mmdet.visualization import DetLocalVisualizer  # noqa: F401, registers
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.structures import InstanceData, PixelData
from mmseg.structures import SegDataSample
from mmseg.visualization import SegLocalVisualizer  # noqa: F401, registers
from PIL import Image
from torch import nn

from pixcon_mm.errors import UserError
from pixcon_mm.visualization import predictions

SIZE = (60, 90)
BOX = [10, 20, 50, 50]
RED, BLUE = (255, 0, 0), (0, 0, 255)


class Images(torch.utils.data.Dataset):
    """Grey images, a box or a half of them is truth."""

    metainfo = dict(classes=('cat', 'dog'), palette=[[*RED], [*BLUE]])

    def __init__(self, folder, scope):
        self.scope, self.paths = scope, []
        for index in range(5):
            path = folder / f'photo{index}.png'
            Image.new('RGB', SIZE[::-1], (90, 90, 90)).save(path)
            self.paths.append(str(path))

    def __len__(self):
        return len(self.paths)

    def get_data_info(self, index):
        info = dict(img_path=self.paths[index])
        if self.scope == 'mmdet':
            truth = dict(bbox=BOX, bbox_label=0, ignore_flag=0)
            crowd = dict(bbox=[0, 0, 90, 60], bbox_label=1, ignore_flag=1)
            info['instances'] = [truth, crowd]
        return info

    def __getitem__(self, index):
        sample = DetDataSample() if self.scope == 'mmdet' else SegDataSample()
        if self.scope == 'mmseg':
            labels = torch.zeros(1, *SIZE, dtype=torch.long)
            labels[:, :, :45] = 1
            labels[:, :5] = 255
            sample.gt_sem_seg = PixelData(data=labels)
        return dict(inputs=torch.zeros(3, 4, 4), data_samples=sample)


class Finds(nn.Module):
    """A model that always finds the same."""

    def __init__(self, scores=()):
        super().__init__()
        self.scores = scores

    def test_step(self, batch):
        assert not self.training
        (sample,) = batch['data_samples']
        if isinstance(sample, SegDataSample):
            labels = torch.zeros(1, *SIZE, dtype=torch.long)
            sample.pred_sem_seg = PixelData(data=labels)
            return [sample]
        count = len(self.scores)
        sample.pred_instances = InstanceData(
            bboxes=torch.tensor([BOX] * count).reshape(-1, 4).float(),
            scores=torch.tensor(self.scores).float(),
            labels=torch.ones(count, dtype=torch.long),
        )
        return [sample]


def halves(picture):
    """Truth and prediction, without their title."""
    width = (picture.shape[1] - predictions.GAP) // 2
    body = picture[-SIZE[0] :].astype(int)
    return body[:, :width], body[:, -width:]


def draw(folder, scope, model):
    init_default_scope(scope)
    cfg = Config(dict(default_scope=scope))
    images = Images(folder, scope)
    ((path, picture),) = predictions.pairs(model, images, cfg, [3])
    assert path == images.paths[3]
    return halves(picture)


def coloured(half, color):
    """Where a picture is more of one colour than of the other."""
    channel = color.index(255)
    return half[..., channel] - half[..., 2 - channel] > 40


@pytest.mark.parametrize(
    'scores', [[0.9, 0.2], [0.1], []], ids=['good', 'best', 'nothing']
)
def test_boxes_of_truth_and_prediction(tmp_path, scores):
    truth, found = draw(tmp_path, 'mmdet', Finds(scores))
    drawn = [(truth, RED, BLUE)]
    if scores:
        drawn.append((found, BLUE, RED))
    else:
        assert (found == 90).all()
    for half, color, other in drawn:
        rows, columns = coloured(half, color).nonzero()
        assert abs(columns.min() - BOX[0]) < 4
        assert abs(columns.max() - BOX[2]) < 4
        assert abs(rows.max() - BOX[3]) < 4
        assert not coloured(half, other).any()


def test_labels_of_truth_and_prediction(tmp_path):
    truth, found = draw(tmp_path, 'mmseg', Finds())
    bottom = slice(40, None)  # below the names of the classes
    assert coloured(truth, BLUE)[bottom, :45].all()
    assert coloured(truth, RED)[bottom, 45:].all()
    assert coloured(found, RED)[bottom].all()


@pytest.mark.parametrize(
    ('scores', 'kept'),
    [([0.9, 0.1, 0.3], 2), ([0.1, 0.25, 0.2, 0.15], 3), ([], 0)],
)
def test_detections_that_are_drawn(scores, kept):
    sample = DetDataSample()
    sample.pred_instances = InstanceData(scores=torch.tensor(scores))
    predictions.limit_detections(sample)
    expected = sorted(scores, reverse=True)[:kept]
    found = sorted(sample.pred_instances.scores.tolist(), reverse=True)
    assert found == pytest.approx(expected)


@pytest.mark.parametrize(
    ('count', 'chosen'), [(2, [1, 4]), (3, [1, 3, 4]), (9, [1, 3, 4, 0, 2])]
)
def test_images_with_objects_come_first(tmp_path, monkeypatch, count, chosen):
    crowd = dict(bbox=BOX, bbox_label=0, ignore_flag=1)
    objects = [[], [dict(crowd, ignore_flag=0)], [crowd]]
    images = Images(tmp_path, 'mmdet')
    monkeypatch.setattr(
        images,
        'get_data_info',
        lambda index: dict(instances=objects[(0, 1, 2, 1, 1)[index]]),
    )
    assert predictions.choose_images(images, count) == chosen


@pytest.mark.parametrize(
    ('classes', 'chosen'),
    [(('background', 'dog'), [1, 4, 0]), (('cat', 'dog'), [0, 2, 4])],
    ids=['background', 'none'],
)
def test_images_with_more_than_background_come_first(
    tmp_path, monkeypatch, classes, chosen
):
    images = Images(tmp_path, 'mmseg')
    monkeypatch.setattr(images, 'metainfo', dict(classes=classes))
    get = Images.__getitem__

    def empty_but_two(self, index):
        sample = get(self, index)
        if index not in (1, 4):
            labels = sample['data_samples'].gt_sem_seg.data
            labels[labels == 1] = 0
        return sample

    monkeypatch.setattr(Images, '__getitem__', empty_but_two)
    assert predictions.choose_images(images, 3) == chosen


def test_other_models_have_no_pictures(tmp_path):
    cfg = Config(dict(default_scope='mmpretrain'))
    with pytest.raises(UserError, match='no detector or segmentor'):
        predictions.build_visualizer(cfg, Images.metainfo)


@pytest.mark.parametrize('palette', [None, 'random', [RED]], ids=str)
def test_every_class_has_a_colour(palette):
    meta = dict(classes=('a', 'b'), palette=palette)
    colors = predictions.names_and_colors(meta)['palette']
    assert len({*colors}) == 2
    assert colors == predictions.names_and_colors(meta)['palette']


def test_a_picture_too_long_for_jpeg_is_made_smaller(tmp_path):
    picture = np.full((8, 70_000, 3), (250, 0, 0), np.uint8)
    predictions.write_picture(tmp_path / 'a.jpg', picture)
    with Image.open(tmp_path / 'a.jpg') as written:
        assert written.size == (65_500, 7)


def test_a_title_fits_into_the_width():
    image = np.zeros((10, 40, 3), np.uint8)
    titled = predictions.with_title(image, 'prediction: best 3')
    assert titled.shape[1:] == (40, 3)
    assert (titled[-10:] == image).all()
    assert (titled[:-10, -2:] == 255).all()
