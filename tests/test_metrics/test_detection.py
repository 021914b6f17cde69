"""COCO's and VOC's metrics against MMDetection's, and of each class."""

import json
import math

import numpy as np
import pytest
import torch
from mmdet.datasets.api_wrappers import COCOeval, COCOevalMP
from mmdet.evaluation.metrics import CocoMetric, VOCMetric

from pixcon_mm.engine.log_line import is_readable
from pixcon_mm.metrics import with_classes
from pixcon_mm.metrics.detection import (
    STATS,
    PerClassCocoMetric,
    PerClassVOCMetric,
)
from tests.benchmarks import coco_json

CLASSES = ('cat', 'dog', 'cow')
SIZE = (80, 80)
# Large enough for COCO's medium size; cows are nowhere.
TRUTH = {1: [(0, [4, 4, 44, 44])], 2: [(1, [10, 10, 60, 60])]}


def mask_of(box):
    x1, y1, x2, y2 = box
    mask = np.zeros(SIZE, np.uint8, order='F')
    mask[y1:y2, x1:x2] = 1
    return mask


@pytest.fixture(params=[(1, 2, 3), (9, 5, 2), (4, 7, 3)], ids=str)
def ids(request):
    """Ids of the categories of cats, dogs and cows."""
    return request.param


@pytest.fixture
def annotations(tmp_path, ids):
    objects = [
        (image, ids[label], (x1, y1, x2 - x1, y2 - y1))
        for image, boxes in TRUTH.items()
        for label, (x1, y1, x2, y2) in boxes
    ]
    content = coco_json(dict.fromkeys(TRUTH, ''), objects, CLASSES, SIZE)
    for category, number in zip(content['categories'], ids, strict=True):
        category['id'] = number
    path = tmp_path / 'truth.json'
    path.write_text(json.dumps(content))
    return str(path)


def arrays(boxes):
    return dict(
        bboxes=torch.tensor([b for _, b in boxes]).reshape(-1, 4).float(),
        labels=torch.tensor([label for label, _ in boxes]).long(),
    )


def coco(kind, path, found, images=tuple(TRUTH), **options):
    """A metric and its values for boxes; masks of dogs are wrong."""
    options = {'metric': ['bbox', 'segm'], **options}
    metric = kind(path, **options)
    metric.dataset_meta = dict(classes=CLASSES)
    samples = []
    for image in images:
        boxes = found.get(image, [])
        masks = [mask_of(TRUTH[1][0][1] if label else b) for label, b in boxes]
        pred = arrays(boxes)
        pred['scores'] = torch.full((len(boxes),), 0.9)
        pred['masks'] = torch.tensor(np.array(masks).reshape(-1, *SIZE))
        samples.append(dict(pred_instances=pred, img_id=image, ori_shape=SIZE))
    metric.process({}, samples)
    return metric, metric.evaluate(len(images))


def test_coco_is_mmdetections_with_nan_for_minus_one(annotations):
    _, expected = coco(CocoMetric, annotations, TRUTH)
    metric, found = coco(PerClassCocoMetric, annotations, TRUTH)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        wanted = math.nan if value == -1 else value
        assert found[name] == pytest.approx(wanted, nan_ok=True), name
    assert math.isnan(found['coco/bbox_mAP_s'])
    # The boxes are right, and the mask of the dog is that of the cat.
    for name, dog in (('bbox_mAP', 1), ('segm_mAP', 0)):
        wanted = dict(cat=1, dog=dog, cow=math.nan)
        assert metric.per_class[name] == pytest.approx(wanted, nan_ok=True)
    for values in metric.per_class.values():
        assert [*values] == [*CLASSES]


@pytest.fixture
def summaries(monkeypatch):
    """Collect the summaries of pycocotools, in the order of evaluation."""
    found = []

    def recording(summarize):
        def record(evaluation):
            summarize(evaluation)
            found.append(np.array(evaluation.stats))

        return record

    for kind in (COCOeval, COCOevalMP):
        monkeypatch.setattr(kind, 'summarize', recording(kind.summarize))
    return found


@pytest.mark.parametrize('use_mp_eval', [False, True])
def test_coco_is_not_rounded(annotations, summaries, use_mp_eval):
    """The cat is found after two false alarms, the dog half."""
    found = {
        1: [(0, [50, 50, 60, 60]), (0, [60, 0, 70, 9]), TRUTH[1][0]],
        2: [(1, [10, 10, 60, 43])],
    }
    options = dict(metric_items=[*STATS], use_mp_eval=use_mp_eval)
    before = COCOeval.summarize
    metric, ours = coco(PerClassCocoMetric, annotations, found, **options)
    assert COCOeval.summarize is before
    boxes, masks = summaries
    _, rounded = coco(CocoMetric, annotations, found, **options)
    for kind, stats in (('bbox', boxes), ('segm', masks)):
        for name, value in zip(STATS, stats, strict=True):
            key = f'coco/{kind}_{name}'
            wanted = math.nan if value == -1 else value
            assert ours[key] == pytest.approx(wanted, abs=1e-12, nan_ok=True)
            assert rounded[key] == pytest.approx(value, abs=6e-4)
        by_class = metric.per_class[f'{kind}_mAP']
        mean = np.nanmean([*by_class.values()])
        assert mean == pytest.approx(stats[0], abs=1e-12)
    assert ours['coco/bbox_mAP'] != rounded['coco/bbox_mAP']


def test_coco_of_proposals(annotations, summaries):
    """They have no classes, and their names no prefix."""
    options = dict(metric='proposal', proposal_nums=(1, 2, 3))
    _, ours = coco(PerClassCocoMetric, annotations, TRUTH, **options)
    (stats,) = summaries
    assert ours['coco/AR@100'] == pytest.approx(stats[6], abs=1e-12)
    _, expected = coco(CocoMetric, annotations, TRUTH, **options)
    assert ours.keys() == expected.keys()


def test_coco_scores_the_images_that_were_tested(annotations):
    metric, found = coco(PerClassCocoMetric, annotations, TRUTH, images=[1])
    assert found['coco/bbox_mAP'] == pytest.approx(1)
    assert metric.per_class['bbox_mAP'] == pytest.approx(
        dict(cat=1, dog=math.nan, cow=math.nan), nan_ok=True
    )


def test_coco_logs_each_class_under_its_name_and_prints_nothing(
    annotations, log, capsys
):
    coco(PerClassCocoMetric, annotations, TRUTH)
    tables = [t for r in log if '| category' in (t := r.getMessage())]
    for table, dog in zip(tables, ('1.0', '0.0'), strict=True):
        rows = [line.split('|')[1:3] for line in table.splitlines()]
        shown = {row[0].strip(): row[1].strip() for row in rows if row}
        found = [shown[name] for name in CLASSES]
        assert found == ['1.0', dog, 'nan']
    (_, summary) = [r for r in log if '(AP)' in r.getMessage()]
    assert not is_readable(summary)
    assert '(AP)' not in capsys.readouterr().out


@pytest.mark.parametrize('format_only', [True, False])
def test_coco_writes_the_ids_of_the_file(
    annotations, ids, tmp_path, format_only
):
    options = dict(format_only=format_only, outfile_prefix=f'{tmp_path}/found')
    coco(PerClassCocoMetric, annotations, TRUTH, **options)
    for kind in ('bbox', 'segm'):
        found = json.loads((tmp_path / f'found.{kind}.json').read_text())
        written = {(d['image_id'], d['category_id']) for d in found}
        assert written == {(1, ids[0]), (2, ids[1])}


def test_coco_of_nothing_is_zero(annotations):
    metric, found = coco(PerClassCocoMetric, annotations, {})
    wrong = {1: [(0, [70, 70, 71, 71])]}
    _, expected = coco(CocoMetric, annotations, wrong)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert value in (0, -1)
        wanted = math.nan if value == -1 else 0
        assert found[name] == pytest.approx(wanted, nan_ok=True), name
    for values in metric.per_class.values():
        assert (values['cat'], values['dog']) == (0, 0)
        assert math.isnan(values['cow'])


def voc(kind, found, thresholds=(0.5, 0.75)):
    metric = kind(iou_thrs=[*thresholds], eval_mode='11points')
    metric.dataset_meta = dict(classes=CLASSES)
    samples = []
    for image, boxes in TRUTH.items():
        truth, pred = arrays(boxes), arrays(found.get(image, []))
        pred['scores'] = torch.full((len(pred['labels']),), 0.9)
        sample = dict(gt_instances=truth, ignored_instances=arrays([]))
        samples.append(dict(sample, pred_instances=pred))
    metric.process({}, samples)
    return metric, metric.evaluate(len(TRUTH))


def test_names_of_thresholds():
    """100 times 0.57 and 0.29 is a little less than 57 and 29."""
    _, found = voc(PerClassVOCMetric, TRUTH, (0.57, 0.29))
    assert {name.rpartition('/')[2] for name in found} == {
        *('mAP', 'AP57', 'AP29')
    }


@pytest.mark.parametrize(
    ('found', 'dog'),
    [
        (TRUTH, dict(AP50=1, AP75=1, mAP=1)),
        # An IoU of 0.64.
        ({**TRUTH, 2: [(1, [10, 10, 42, 60])]}, dict(AP50=1, AP75=0, mAP=0.5)),
        # Two false alarms: a precision of 1/3, which rounding changes.
        (
            {**TRUTH, 2: [(1, [0, 0, 5, 5]), (1, [0, 70, 5, 75]), *TRUTH[2]]},
            dict.fromkeys(('AP50', 'AP75', 'mAP'), 1 / 3),
        ),
        ({}, dict(AP50=0, AP75=0, mAP=0)),
    ],
    ids=['all', 'one', 'false alarms', 'nothing'],
)
def test_voc_is_mmdetections(found, dog):
    _, expected = voc(VOCMetric, found)
    metric, ours = voc(PerClassVOCMetric, found)
    assert ours == pytest.approx(expected, abs=5e-4)  # theirs are rounded
    for name, value in dog.items():
        values = metric.per_class[name]
        assert values['dog'] == pytest.approx(value)
        assert math.isnan(values['cow'])
        mean = np.nanmean(list(values.values()))
        assert mean == pytest.approx(ours[f'pascal_voc/{name}'])


def test_only_metrics_with_a_per_class_form_are_replaced():
    other = dict(type='DumpResults', out_file_path='a.pkl')
    coco = dict(type='mmdet.CocoMetric', metric='bbox')
    ours = dict(coco, type=PerClassCocoMetric)
    assert with_classes(coco) == ours
    assert with_classes([other, coco]) == [other, ours]
    assert with_classes(dict(metrics=[coco])) == dict(metrics=[ours])
    for unchanged in (other, None, dict(type=CocoMetric)):
        assert with_classes(unchanged) == unchanged
