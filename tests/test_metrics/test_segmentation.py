"""IoU and accuracy of each class against counts of pixels."""

import numpy as np
import pytest
import torch
from mmseg.evaluation.metrics import IoUMetric

from pixcon_mm.metrics.segmentation import PerClassIoUMetric

CLASSES = ('sky', 'tree', 'car')


def evaluate(kind, truth, found):
    metric = kind(ignore_index=255, iou_metrics=['mIoU'])
    metric.dataset_meta = dict(classes=CLASSES)
    samples = [
        dict(
            gt_sem_seg=dict(data=torch.tensor(a)[None]),
            pred_sem_seg=dict(data=torch.tensor(b)[None]),
        )
        for a, b in zip(truth, found, strict=True)
    ]
    metric.process({}, samples)
    return metric, metric.evaluate(len(truth))


def test_values_of_each_class():
    rng = np.random.default_rng(0)
    truth = rng.choice([0, 1, 255], (2, 9, 9))
    found = rng.choice([0, 1], (2, 9, 9))
    metric, ours = evaluate(PerClassIoUMetric, truth, found)
    _, expected = evaluate(IoUMetric, truth, found)
    assert ours == expected
    known = truth != 255
    for label, name in enumerate(CLASSES[:2]):
        both = ((truth == label) & (found == label)).sum()
        either = (known & ((truth == label) | (found == label))).sum()
        iou = pytest.approx(100 * both / either, abs=0.006)
        assert metric.per_class['IoU'][name] == iou
        accuracy = pytest.approx(
            100 * both / (truth == label).sum(), abs=0.006
        )
        assert metric.per_class['Acc'][name] == accuracy
    # No car anywhere.
    assert np.isnan([v['car'] for v in metric.per_class.values()]).all()
    mean = np.nanmean(list(metric.per_class['IoU'].values()))
    assert ours['mIoU'] == pytest.approx(mean, abs=0.01)
