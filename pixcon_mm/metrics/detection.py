"""COCO's and VOC's metrics with the average precision of each class."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from io import StringIO

import numpy as np
from mmdet.datasets.api_wrappers import COCOeval, COCOevalMP
from mmdet.evaluation.functional import eval_map
from mmdet.evaluation.metrics import CocoMetric, VOCMetric
from mmengine.logging import MMLogger
from pycocotools import mask as rle

NOTHING_FOUND = (
    'The detector found nothing in the %d images: its precision is 0. A '
    'detection needs a score above score_thr in model.test_cfg.'
)
# MMDetection's names of COCO's summary, in its order.
STATS = (
    *('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l'),
    *('AR@100', 'AR@300', 'AR@1000', 'AR_s@1000', 'AR_m@1000', 'AR_l@1000'),
)


class PerClassCocoMetric(CocoMetric):
    """COCO's metric with the AP of each class, defined in all cases.

    Unlike MMDetection's, the values are not rounded to 0.001: differences
    between seeds are that small.

    If a detector finds nothing, the metrics are 0. If the truth has no object
    (of a size or class), they are NaN, where COCO's code returns -1. The ids
    of the categories may be in any order, and the loader may test a part of
    the images. The arguments are those of MMDetection's CocoMetric.

    Attributes:
        per_class (dict[str, dict[str, float]]): ``bbox_mAP`` and
            ``segm_mAP`` by class, in [0, 1], in the order of the class names.
    """

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Compute the metrics of all images; see CocoMetric."""
        if self._coco_api is not None:
            results = self._with_sorted_labels(results)
        # Images that were not tested would count as images without detections.
        self.img_ids = [truth['img_id'] for truth, _ in results]
        if self.format_only:
            return super().compute_metrics(results)
        if not any(len(found['scores']) for _, found in results):
            MMLogger.get_current_instance().warning(
                NOTHING_FOUND, len(results)
            )
            results = [_with_false_alarm(*results[0]), *results[1:]]
        metrics, classwise = self.metrics, self.classwise
        values: dict[str, float] = {}
        self.per_class: dict[str, dict[str, float]] = {}
        try:
            # Compute bbox and segm one after the other, because their values
            # for a class have the same key.
            for metric in metrics:
                self.metrics, self.classwise = [metric], True
                # COCO's own table goes to the log file. The terminal gets the
                # table of classes and, at the end, a table of all metrics.
                with (
                    redirect_stdout(StringIO()) as printed,
                    _kept_evaluations() as kept,
                ):
                    found = super().compute_metrics(results)
                MMLogger.get_current_instance().info(
                    '\n%s', printed.getvalue()
                )
                for name in self.dataset_meta['classes']:
                    found.pop(f'{name}_precision', None)
                for evaluation in kept:
                    found.update(_unrounded(found, metric, evaluation.stats))
                    if evaluation.params.useCats:
                        self.per_class[f'{metric}_mAP'] = (
                            self._precision_of_classes(evaluation)
                        )
                values.update(found)
        finally:
            self.metrics, self.classwise = metrics, classwise
        return {
            name: float('nan') if value == -1 else float(value)
            for name, value in values.items()
        }

    def _precision_of_classes(self, evaluation: COCOeval) -> dict[str, float]:
        """Return the AP of each class; NaN for a class without objects."""
        # IoU threshold, recall, class, range of areas, number of detections
        precision = evaluation.eval['precision'][:, :, :, 0, -1]
        by_name = {}
        for i, number in enumerate(self.cat_ids):
            (category,) = self._coco_api.loadCats(number)
            values = precision[:, :, i]
            is_defined = values > -1
            by_name[category['name']] = (
                float(values[is_defined].mean())
                if is_defined.any()
                else float('nan')
            )
        return {
            name: by_name[name]
            for name in self.dataset_meta['classes']
            if name in by_name
        }

    def _with_sorted_labels(self, results: list) -> list:
        """Return results whose labels count the categories by their ids.

        A label is the place of a category in the file, and CocoMetric names
        the classes in this order, while pycocotools returns their precision
        in the order of the ids. The results keep their categories.
        """
        ids = self._coco_api.get_cat_ids(
            cat_names=self.dataset_meta['classes']
        )
        ordered, ranks = np.unique(ids, return_inverse=True)
        self.cat_ids = ordered.tolist()
        return [
            (truth, dict(found, labels=ranks[found['labels']]))
            for truth, found in results
        ]


@contextmanager
def _kept_evaluations() -> Iterator[list[COCOeval]]:
    """Keep the evaluations that MMDetection summarizes."""
    kept: list[COCOeval] = []
    originals = {kind: kind.summarize for kind in (COCOeval, COCOevalMP)}

    def keeping(summarize: Callable) -> Callable:
        def summarize_and_keep(evaluation: COCOeval) -> None:
            summarize(evaluation)
            # One of the two methods may call the other.
            if not any(evaluation is other for other in kept):
                kept.append(evaluation)

        return summarize_and_keep

    try:
        for kind, summarize in originals.items():
            kind.summarize = keeping(summarize)
        yield kept
    finally:
        for kind, summarize in originals.items():
            kind.summarize = summarize


def _unrounded(
    found: dict[str, float], metric: str, stats: np.ndarray
) -> dict[str, float]:
    """Return the metrics among ``stats`` that were found, without rounding.

    Those of proposals have no prefix.
    """
    return {
        key: float(value)
        for name, value in zip(STATS, stats, strict=True)
        for key in (name, f'{metric}_{name}')
        if key in found
    }


def _with_false_alarm(truth: dict, found: dict) -> tuple[dict, dict]:
    """Add a detection with area and score 0, which matches no object.

    COCO's code fails if there is no detection at all. With this one it
    computes the metrics, and all are 0.
    """
    alarm = dict(
        found,
        bboxes=np.zeros((1, 4)),
        scores=np.zeros(1),
        labels=np.zeros(1, int),
    )
    if 'masks' in found:
        empty = np.zeros((truth['height'], truth['width']), np.uint8, 'F')
        alarm['masks'] = [rle.encode(empty)]
    return truth, alarm


class PerClassVOCMetric(VOCMetric):
    """VOC's metric with the AP of each class, and one table in the log.

    Takes the arguments of MMDetection's VOCMetric.

    Attributes:
        per_class (dict[str, dict[str, float]]): AP at each threshold (such as
            ``AP50``) and their mean ``mAP``, by class, in [0, 1]; NaN for a
            class without true objects.
    """

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Compute the metrics of all images; see VOCMetric."""
        if self.metric != 'mAP':
            return super().compute_metrics(results)
        logger = MMLogger.get_current_instance()
        truth, found = zip(*results, strict=True)
        if not any(len(boxes) for image in found for boxes in image):
            logger.warning(NOTHING_FOUND, len(results))
        classes = self.dataset_meta['classes']
        means, values = [], {}
        self.per_class: dict[str, dict[str, float]] = {}
        for threshold in self.iou_thrs:
            mean, by_class = eval_map(
                found,
                truth,
                scale_ranges=self.scale_ranges,
                iou_thr=threshold,
                dataset=classes,
                # Log one table, not one for each threshold.
                logger=logger if threshold == self.iou_thrs[0] else 'silent',
                eval_mode=self.eval_mode,
                use_legacy_coordinate=True,
            )
            means.append(mean)
            name = f'AP{round(threshold * 100):02d}'
            # Unlike MMDetection's, not rounded to 0.001: differences between
            # seeds are that small.
            values[name] = float(mean)
            self.per_class[name] = {
                label: float(one['ap']) if one['num_gts'] else float('nan')
                for label, one in zip(classes, by_class, strict=True)
            }
        self.per_class['mAP'] = {
            label: float(np.mean([self.per_class[n][label] for n in values]))
            for label in classes
        }
        return dict(mAP=sum(means) / len(means), **values)
