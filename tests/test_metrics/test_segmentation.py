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
    # MMSegmentation's are float32.
    assert ours == pytest.approx(expected, rel=1e-6)
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


def test_a_class_of_more_pixels_than_float32_counts():
    """Above 2^24, where adding 1 to a float32 changes nothing."""
    sky, car = 2**24 + 5, 2**22
    truth = torch.zeros(1, sky + car, dtype=torch.int16)
    truth[:, sky:] = 2
    found = torch.zeros_like(truth)
    found[:, -3:] = 2
    found[0, 0], found[0, 2], truth[0, 1] = 7, -1, 255  # no class; ignored
    areas = PerClassIoUMetric.intersect_and_union(found, truth, 3, 255)
    intersection, union, predicted, true = (a.tolist() for a in areas)
    assert intersection == [sky - 3, 0, 3]
    assert predicted == [sky - 3 + car - 3, 0, 3]
    assert true == [sky - 1, 0, car]
    assert union == [sky - 1 + car - 3, 0, car]
